"""Save a running container as criu's images: `checkpoint`. What restores them is `restore`.

Beside criu's images lies `descriptors.json`, as runc writes and reads it: where the standard
streams of the first process lead, so that pipes can be replaced at the restore.
"""

from __future__ import annotations

import os
import stat

from barque.errors import BarqueError, Conflict, InvalidArgument, Unsupported
from barque.linux.cgroup import UNIFIED
from barque.linux.fs import open_in_root, write_atomic
from barque.linux.namespaces import CLONE_NEWNET
from barque.oci.document import dump
from barque.runc import criu, devices
from barque.runc.container import CREATED, STOPPED
from barque.runc.enter import container_spec
from barque.runc.rootfs import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.oci.runtime import Spec
    from barque.runc.container import Container

OLDEST = 30000  # criu 3.0
DESCRIPTORS = "descriptors.json"
LOG = "dump.log"
LOG_LEVEL = 4
MODE = 0o700
DEFAULT_CONFIG = "/etc/criu/runc.conf"
CONFIG_ANNOTATION = "org.criu.config"
EXTERNAL = {"network": "net", "pid": "pid"}  # kinds that criu leaves to us, and its words for them
EMPTY_NAMESPACES = {"network": CLONE_NEWNET}
MEMORY_TRACKING, LAZY_PAGES = 1, 2  # fields of criu_features


class Options:
    """What the command lines of checkpoint and restore say."""

    __slots__ = (
        "bundle",
        "detach",
        "empty_ns",
        "flags",
        "image_path",
        "leave_running",
        "lsm_mount_context",
        "lsm_profile",
        "manage_cgroups",
        "page_server",
        "parent_path",
        "pre_dump",
        "program",
        "status_fd",
        "work_path",
    )

    def __init__(self, image_path: str, program: str) -> None:
        self.image_path = image_path  # absolute
        self.program = program  # criu's
        self.work_path = ""  # absolute; empty: the image path
        self.parent_path = ""  # relative to the image path
        self.flags: dict[str, bool] = {}  # criu_opts that are taken as they are
        self.manage_cgroups = ""
        self.empty_ns = 0
        self.leave_running = self.pre_dump = False
        self.page_server: tuple[str, int] | None = None
        self.status_fd = -1
        self.lsm_profile = self.lsm_mount_context = ""


def checkpoint(container: Container, options: Options) -> None:
    """Write the images. Without `leave_running` and `pre_dump` criu has ended the container."""
    status = container.status()
    if status in (STOPPED, CREATED):
        raise Conflict(f"Container cannot be checkpointed in {status} state")
    spec = container_spec(container)
    if criu.version(options.program) < OLDEST:
        raise Unsupported("criu is older than 3.0")
    if options.pre_dump:
        criu.require_feature(options.program, MEMORY_TRACKING, "MemTrack")
    if options.flags.get("lazy_pages"):
        criu.require_feature(options.program, LAZY_PAGES, "LazyPages")
    opened = open_directories(options)
    try:
        wanted = dump_options(container, spec, options)
        wanted.update(opened)
        if not options.pre_dump:
            save_descriptors(container, options)
        with criu.Criu(options.program) as service:
            kind = criu.PRE_DUMP if options.pre_dump else criu.DUMP
            try:
                service.call(kind, wanted, lambda name, *_: reached(name, options))
            except BarqueError as error:
                text = criu.quoted_log(options.work_path or options.image_path, LOG)
                raise type(error)(f"{error}{text}") from None
    finally:
        for fd in opened.values():
            os.close(fd)


def open_directories(options: Options) -> dict[str, int]:
    """The directories of images and of logs, made where they are not there."""
    opened = {}
    for name, path in (("images_dir_fd", options.image_path), ("work_dir_fd", options.work_path)):
        if not path:
            continue
        try:
            os.mkdir(path, MODE)
        except FileExistsError:
            pass
        opened[name] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return opened


def reached(point: str, options: Options) -> None:
    """The page server is ready: who asked by --status-fd is told with a zero byte."""
    if point == "status-ready" and options.status_fd >= 0:
        try:
            os.write(options.status_fd, b"\0")
        finally:
            os.close(options.status_fd)
            options.status_fd = -1


def common_options(spec: Spec, options: Options) -> dict[str, Any]:
    """What a dump and a restore have in common."""
    return {
        **options.flags,
        "log_level": LOG_LEVEL,
        "manage_cgroups": True,
        "manage_cgroups_mode": criu.CGROUP_MODES[options.manage_cgroups],
        "notify_scripts": True,
        "orphan_pts_master": True,
        "empty_ns": options.empty_ns or None,
        "config_file": spec.annotations.get(CONFIG_ANNOTATION, DEFAULT_CONFIG) or None,
    }


def dump_options(container: Container, spec: Spec, options: Options) -> dict[str, Any]:
    wanted = common_options(spec, options)
    wanted |= {
        "log_file": LOG,
        "root": container.rootfs,
        "pid": container.pid,
        "leave_running": options.leave_running,
        "external": external_namespaces(container, spec),
        "freeze_cgroup": container.cgroup.path("freezer"),
        "page_server": options.page_server,
    }
    if options.parent_path:
        wanted |= {"parent_img": options.parent_path, "track_mem": True}
    if not options.pre_dump:
        wanted["ext_mnt"] = external_mounts(container, spec)
    return wanted


def external_namespaces(container: Container, spec: Spec) -> list[str]:
    """Namespaces that were joined by path are not saved: they must be there at the restore."""
    found = []
    for kind, word in EXTERNAL.items():
        namespace = spec.linux.namespaces.get(kind)
        if namespace is not None and namespace.path:
            inode = os.stat(f"/proc/{container.pid}/ns/{word}").st_ino
            found.append(f"{word}[{inode}]:{namespace_key(word)}")
    return found


def namespace_key(word: str) -> str:
    return f"extRoot{word.capitalize()}NS"


def external_mounts(container: Container, spec: Spec) -> list[tuple[str, str]]:
    """Mount points whose sources are the host's, each with its name in the images."""
    found = []
    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in spec.mounts:
            if is_bind(mount.type, mount.options):
                place = resolved(root, mount.destination)
                found.append((place, place))
            elif mount.type == "cgroup":
                check_cgroup_mount(container, spec)
        for path in spec.linux.masked_paths:
            if is_file(root, path):
                found.append((normal(path), "/dev/null"))
    finally:
        os.close(root)
    found += [(normal(node.path), normal(node.path)) for node in devices.planned(spec)]
    return found


def check_cgroup_mount(container: Container, spec: Spec) -> None:
    """One of version 1 without a namespace of its own is made of mounts of the host's."""
    if list(container.cgroup.directories) != [UNIFIED] and "cgroup" not in spec.linux.namespaces:
        raise Unsupported(
            "checkpoint of a container with a mount of cgroups of version 1 "
            "needs a cgroup namespace"
        )


def is_bind(kind: str, words: tuple[str, ...]) -> bool:
    return kind == "bind" or "bind" in words or "rbind" in words


def resolved(root: int, path: str) -> str:
    """The place `path` leads to in the container, without links."""
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError:
        return normal(path)
    try:
        top = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        place = os.readlink(f"/proc/self/fd/{fd}")
        return normal(place.removeprefix(top)) if place.startswith(f"{top}/") else normal(path)
    finally:
        os.close(fd)


def is_file(root: int, path: str) -> bool:
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return not stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def save_descriptors(container: Container, options: Options) -> None:
    """Where the standard streams lead, as the kernel names it: `pipe:[123]`, a path."""
    try:
        found = [os.readlink(f"/proc/{container.pid}/fd/{number}") for number in range(3)]
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise InvalidArgument(f"the standard streams of the container are not open: {text}") from (
            error
        )
    write_atomic(f"{options.image_path}/{DESCRIPTORS}", dump(found))
