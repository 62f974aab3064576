"""Make a container of criu's images: `restore`. What makes the images is `checkpoint`.

criu makes the process tree and its namespaces; cgroup, state and the root file system are ours. The
first process becomes a child of the caller, as that of `create` does. What is mounted for criu is
in a mount namespace of this command alone, so that nothing of it stays whenever the command dies.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from barque.linux import cgroup as control
from barque.linux import mount as kernel
from barque.linux.fs import read_bounded
from barque.linux.namespaces import CLONE_NEWNS, unshare
from barque.oci.document import dump, parse
from barque.runc import channel, checkpoint, criu, devices, seccomp
from barque.runc.birth import destroy_process, write_pid_file
from barque.runc.container import Container, process_times, unlock
from barque.runc.create import make_cgroup, new_container, read_spec
from barque.runc.hooks import run_hooks
from barque.runc.rootfs import Rootfs, normal
from barque.runc.undo import Undo
from barque.runc.validate import check_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.oci.runtime import Spec
    from barque.runc.checkpoint import Options as CriuOptions
    from barque.runc.create import Options
    from barque.runc.paths import Paths

LOG = "restore.log"
LSM_SINCE = 31600  # criu 3.16


class Restored:
    """What the notifications of criu lead to."""

    def __init__(self, container: Container, spec: Spec, options: Options) -> None:
        self.container = container
        self.spec = spec
        self.options = options

    def reached(self, point: str, pid: int, fd: int) -> None:
        if point == "setup-namespaces":
            hooks = self.spec.hooks
            self.container.pid = pid
            state = dump(self.container.document("creating"))
            run_hooks(
                (*hooks.get("prestart", ()), *hooks.get("createRuntime", ())), state, os.environ
            )
        elif point == "orphan-pts-master":
            if not self.options.console_socket:
                raise InvalidArgument("the container has a terminal: --console-socket is missing")
            channel.send_descriptor(self.options.console_socket, "/dev/ptmx", fd)


def restore(paths: Paths, identifier: str, options: Options, wanted: CriuOptions) -> Container:
    """Make the container `identifier` of the images; its process runs on."""
    raw, spec = read_spec(options.bundle)
    check_spec(spec)
    check(spec, wanted)
    pipes = inherited_pipes(wanted.image_path)
    rootfs = os.path.normpath(os.path.join(options.bundle, spec.root_path))
    with Undo() as undo:
        container, lock = new_container(
            paths, identifier, (raw, spec), options.bundle, rootfs, undo
        )
        inhabited = make_cgroup(container, spec, undo)
        unshare(CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_SLAVE | kernel.MS_REC)
        root = mounted_root(container)
        undo.add(kernel.umount2, root, kernel.MNT_DETACH)
        make_mount_points(root, rootfs, spec)
        pid = run_criu(container, spec, options, wanted, (root, pipes), undo)
        adopt(container, spec, pid)
        inhabited()
        if options.pid_file:
            write_pid_file(options.pid_file, pid)
        undo.keep()
        kernel.umount2(root, kernel.MNT_DETACH)
        os.rmdir(root)
        unlock(lock)
    return container


def check(spec: Spec, wanted: CriuOptions) -> None:
    found = criu.version(wanted.program)
    if found < checkpoint.OLDEST:
        raise Unsupported("criu is older than 3.0")
    for name in ("lsm_profile", "lsm_mount_context"):
        if getattr(wanted, name) and found < LSM_SINCE:
            raise Unsupported(f"--{name.replace('_', '-')} requires at least CRIU 3.16")
    cgroup = spec.linux.namespaces.get("cgroup")
    if cgroup is not None and cgroup.path:
        raise Unsupported("restore into a cgroup namespace by path is not supported by criu")


def mounted_root(container: Container) -> str:
    """The root file system at a mount point of its own, whose parent nothing covers."""
    root = container.paths.criu_root(container.id)
    os.mkdir(root, 0o755)
    kernel.mount(container.rootfs, root, None, kernel.MS_BIND | kernel.MS_REC)
    return os.path.realpath(root)


def make_mount_points(root: str, rootfs: str, spec: Spec) -> None:
    """Places of mounts that the root file system lacks; what lies on a tmpfs comes with it."""
    tree = Rootfs(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), rootfs)
    temporary = [normal(mount.destination) for mount in spec.mounts if mount.type == "tmpfs"]
    try:
        for mount in spec.mounts:
            place = normal(mount.destination)
            if mount.type == "cgroup" or any(place.startswith(f"{top}/") for top in temporary):
                continue
            bind = checkpoint.is_bind(mount.type, mount.options)
            is_directory = not bind or os.path.isdir(mount.source)
            os.close(tree.make(place, is_directory=is_directory))
    finally:
        os.close(tree.fd)


def run_criu(
    container: Container,
    spec: Spec,
    options: Options,
    wanted: CriuOptions,
    found: tuple[str, list[tuple[str, int]]],
    undo: Undo,
) -> int:
    descriptors: list[int] = []
    opened: dict[str, int] = {}
    try:
        request = restore_options(spec, wanted, *found, descriptors)
        opened.update(checkpoint.open_directories(wanted))
        request.update(opened)
        with criu.Criu(wanted.program, descriptors, quiet=False) as service:
            container.cgroup.attach(service.pid)
            request["cg_root"] = list(control.own_paths(service.pid).items())
            notified = Restored(container, spec, options).reached
            try:
                answer = service.call(criu.RESTORE, request, notified)
            except BarqueError as error:
                text = criu.quoted_log(wanted.work_path or wanted.image_path, LOG)
                raise type(error)(f"{error}{text}") from None
        pid = int(criu.decode(answer.get(4, b"")).get(1, 0))
        if pid <= 0:
            raise BarqueError("criu tells no process")
        undo.add(destroy_process, pid)
        return pid
    finally:
        for fd in (*opened.values(), *descriptors):
            os.close(fd)


def restore_options(
    spec: Spec,
    wanted: CriuOptions,
    root: str,
    pipes: list[tuple[str, int]],
    descriptors: list[int],
) -> dict[str, Any]:
    """criu_opts; descriptors that criu gets are appended."""
    request = checkpoint.common_options(spec, wanted)
    inherited = list(pipes)
    joined = []
    for kind, namespace in spec.linux.namespaces.items():
        if not namespace.path:
            continue
        if kind in checkpoint.EXTERNAL:
            word = checkpoint.EXTERNAL[kind]
            number = criu.FIRST_FD + len(descriptors)
            inherited.append((checkpoint.namespace_key(word), number))
            descriptors.append(os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC))
        else:
            joined.append(({"mount": "mnt"}.get(kind, kind), namespace.path))
    return {
        **request,
        "evasive_devices": True,
        "log_file": LOG,
        "rst_sibling": True,
        "root": root,
        "ext_mnt": external_mounts(root, spec),
        "inherit_fd": inherited,
        "join_ns": joined,
        "lsm_profile": wanted.lsm_profile or None,
        "lsm_mount_context": wanted.lsm_mount_context or None,
    }


def external_mounts(root: str, spec: Spec) -> list[tuple[str, str]]:
    """Names of mounts in the images, and what of the host is mounted for them."""
    found = []
    tree = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in spec.mounts:
            if checkpoint.is_bind(mount.type, mount.options):
                found.append((checkpoint.resolved(tree, mount.destination), mount.source))
    finally:
        os.close(tree)
    if spec.linux.masked_paths:
        found.append(("/dev/null", "/dev/null"))
    found += [(normal(node.path), normal(node.path)) for node in devices.planned(spec)]
    return list(dict.fromkeys(found))


def inherited_pipes(image_path: str) -> list[tuple[str, int]]:
    """Pipes that were the standard streams are replaced by ours. runc's descriptors.json."""
    path = f"{image_path}/{checkpoint.DESCRIPTORS}"
    try:
        names = parse(read_bounded(path))
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidArgument(f"{path}: not a list of names")
    return [(name, number) for number, name in enumerate(names[:3]) if name.startswith("pipe:")]


def adopt(container: Container, spec: Spec, pid: int) -> None:
    """The process is the container's from here on."""
    if spec.linux.seccomp is not None:
        container.filter_key = seccomp.key_of(spec.linux.seccomp)  # for what exec adds
    container.pid = pid
    container.start_time = process_times(pid) or 0
    if "time" not in container.namespaces and not same_namespace(pid, "time"):
        container.namespaces.append("time")  # criu continues the clocks in one
    container.save()


def same_namespace(pid: int, word: str) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/{word}").st_ino == os.stat(f"/proc/self/ns/{word}").st_ino
    except OSError:
        return True
