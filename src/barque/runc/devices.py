"""Device nodes and links of /dev. config-linux.md, "Devices" and "Default Devices"."""

from __future__ import annotations

import os
import stat

import barque.linux.mount as kernel
from barque.errors import Conflict, InvalidArgument
from barque.linux.fs import open_in_root
from barque.linux.libc import AT_EMPTY_PATH
from barque.oci.runtime import Device
from barque.runc.rootfs import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Mount, Spec
    from barque.runc.rootfs import Rootfs

LARGEST_MAJOR = (1 << 12) - 1
LARGEST_MINOR = (1 << 20) - 1
NULL = os.makedev(1, 3)
KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
PERMISSIONS = 0o777
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


def _character(path: str, major: int, minor: int) -> Device:
    return Device(path=path, type="c", major=major, minor=minor, mode=0o666, uid=0, gid=0)


DEFAULT = (
    _character("/dev/null", 1, 3),
    _character("/dev/zero", 1, 5),
    _character("/dev/full", 1, 7),
    _character("/dev/random", 1, 8),
    _character("/dev/urandom", 1, 9),
    _character("/dev/tty", 5, 0),
)


def planned(spec: Spec) -> tuple[Device, ...]:
    """The nodes to make: those of the config win over the default ones of the same path."""
    nodes = {device.path: device for device in DEFAULT}
    for device in spec.linux.devices:
        _check(device)
        nodes[normal(device.path)] = device
    nodes.pop("/dev/ptmx", None)  # a link into the container's own devpts
    return tuple(nodes.values())


def _check(device: Device) -> None:
    if not device.path.startswith("/"):
        raise InvalidArgument(f"device {device.path!r} is not an absolute path")
    if device.major > LARGEST_MAJOR or device.minor > LARGEST_MINOR:
        raise InvalidArgument(f"device {device.path}: {device.major}:{device.minor} is too large")


def wanted(mounts: tuple[Mount, ...]) -> bool:
    """Whether /dev is ours to fill; one bind-mounted from the host is left as it is."""
    return not any(
        normal(mount.destination) == "/dev"
        and (mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options)
        for mount in mounts
    )


def make_nodes(rootfs: Rootfs, devices: tuple[Device, ...], *, by_bind: bool) -> None:
    """Make the nodes; `by_bind` (in a user namespace) mounts those of the host instead."""
    if by_bind:
        for device in devices:
            _bind(rootfs, device.path)
        return
    places: dict[str, list[tuple[str, Device]]] = {}
    for device in devices:
        parent, _, name = normal(device.path).rpartition("/")
        places.setdefault(parent or "/", []).append((name, device))
    for parent, nodes in places.items():
        directory = rootfs.make(parent, is_directory=True)
        try:
            for name, device in nodes:
                _make(directory, name, device)
        finally:
            os.close(directory)


def _make(directory: int, name: str, device: Device) -> None:
    identity = os.makedev(device.major, device.minor)
    mode = KINDS[device.type] | device.mode & PERMISSIONS
    try:
        os.mknod(name, mode, identity, dir_fd=directory)
    except FileExistsError:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        same_kind = stat.S_IFMT(found.st_mode) == KINDS[device.type]
        if not same_kind or (device.type != "p" and found.st_rdev != identity):
            raise Conflict(f"{device.path} is there and is another file") from None
        return
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"mknod: {os.strerror(number)}", device.path) from error
    os.chown(name, device.uid, device.gid, dir_fd=directory, follow_symlinks=False)


def _bind(rootfs: Rootfs, path: str) -> None:
    _mount_file(rootfs, normal(path), rootfs.bind_source(path, recursive=False))


def _mount_file(rootfs: Rootfs, path: str, source: int) -> None:
    """Attach the detached mount `source` of a file at `path` inside, and close it."""
    try:
        place = rootfs.make(path, is_directory=False)
        try:
            kernel.move_mount(source, place)
        finally:
            os.close(place)
    finally:
        os.close(source)


def make_links(rootfs: Rootfs) -> None:
    """The links to the process's own descriptors, and ptmx."""
    directory = rootfs.make("/dev", is_directory=True)
    try:
        for path, target in LINKS:
            _link(directory, path.rpartition("/")[2], target)
        if rootfs.devpts >= 0:
            try:
                os.unlink("ptmx", dir_fd=directory)
            except FileNotFoundError:
                pass
            os.symlink("pts/ptmx", "ptmx", dir_fd=directory)
    finally:
        os.close(directory)


def _link(directory: int, name: str, target: str) -> None:
    try:
        os.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        pass  # the image's own; nothing of ours goes through it


def reopen_null(rootfs: Rootfs) -> None:
    """A standard stream that is the host's /dev/null becomes the container's: what is open of the
    host's file system would keep it from being saved. What is not the null device stays out."""
    streams = [number for number in range(3) if _is_null(number)]
    if not streams:
        return
    try:
        place = open_in_root(rootfs.fd, "/dev/null", os.O_PATH)
    except OSError:
        return
    try:
        if _is_null(place):
            null = os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_CLOEXEC)
            for number in streams:
                os.dup2(null, number)
            os.close(null)
    finally:
        os.close(place)


def _is_null(fd: int) -> bool:
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL


def mount_console(rootfs: Rootfs, terminal: int) -> None:
    """The container's terminal at /dev/console: the descriptor itself is mounted, not a path."""
    source = kernel.open_tree("", kernel.OPEN_TREE_CLONE | AT_EMPTY_PATH, terminal)
    _mount_file(rootfs, "/dev/console", source)
