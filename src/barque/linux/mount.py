"""Mounts: mount(2), umount2(2), pivot_root(2) and the calls that work on mount file descriptors.

A mount made with `fsopen`..`fsmount` or `open_tree(OPEN_TREE_CLONE)` is detached: it has a file
descriptor and no place. `move_mount` gives it a place, which is a file descriptor too, so no path
is walked twice.
"""

from __future__ import annotations

import ctypes
import errno
import os

from barque.linux.libc import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    encode,
    os_error,
    prototype,
    raise_errno,
    system_call,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.linux.libc import StrPath

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_RECURSIVE = 0x8000
AT_NO_AUTOMOUNT = 0x800
AT_SYMLINK_NOFOLLOW = 0x100

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

# what mount(2) sets or clears of a mount when it changes it
ORDINARY_ATTRIBUTES = (
    MOUNT_ATTR_RDONLY
    | MOUNT_ATTR_NOSUID
    | MOUNT_ATTR_NODEV
    | MOUNT_ATTR_NOEXEC
    | MOUNT_ATTR__ATIME
    | MOUNT_ATTR_NODIRATIME
    | MOUNT_ATTR_NOSYMFOLLOW
)

FSPICK_EMPTY_PATH = 8

LONGEST_KERNEL_LOG_LINE = 1024  # bytes of one message read from a filesystem context


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_mount = prototype(
    "mount",
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_umount2 = prototype("umount2", ctypes.c_char_p, ctypes.c_int)
_pivot_root = prototype("pivot_root", ctypes.c_char_p, ctypes.c_char_p)
_open_tree = system_call(428, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount = system_call(
    429, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_fsopen = system_call(430, ctypes.c_char_p, ctypes.c_uint)
_fsconfig = system_call(
    431, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int
)
_fsmount = system_call(432, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_fspick = system_call(433, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mount_setattr = system_call(
    442,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.POINTER(_MountAttr),
    ctypes.c_size_t,
)


def mount(
    source: StrPath | None,
    target: StrPath,
    fstype: str | None = None,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """mount(2): `source` of type `fstype` on `target`; `flags` are MS_*, `data` the options."""
    if _mount(encode(source), encode(target), encode(fstype), flags, encode(data)) < 0:
        raise_errno("mount", target)


def umount2(target: StrPath, flags: int = 0) -> None:
    """Detach the topmost mount at `target`. umount(2)."""
    if _umount2(encode(target), flags) < 0:
        raise_errno("umount2", target)


def pivot_root(new_root: StrPath, put_old: StrPath) -> None:
    """pivot_root(2). Both may be "." : the old root is then stacked under the new one."""
    if _pivot_root(encode(new_root), encode(put_old)) < 0:
        raise_errno("pivot_root", new_root)


def open_tree(path: StrPath, flags: int = OPEN_TREE_CLONE, directory: int = AT_FDCWD) -> int:
    """A file descriptor on the mount at `path`; with OPEN_TREE_CLONE a detached copy of it
    (with AT_RECURSIVE of all mounts below too). An empty path with AT_EMPTY_PATH is `directory`."""
    fd = _open_tree(directory, encode(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        raise_errno("open_tree", path)
    return fd


def move_mount(mount_fd: int, target_fd: int) -> None:
    """Attach the detached mount `mount_fd` on the file or directory open as `target_fd`."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    if _move_mount(mount_fd, b"", target_fd, b"", flags) < 0:
        raise_errno("move_mount")


def move_mount_to(mount_fd: int, target: StrPath, directory: int = AT_FDCWD) -> None:
    """Attach the detached mount `mount_fd` at the path `target`, which the caller trusts."""
    if _move_mount(mount_fd, b"", directory, encode(target), MOVE_MOUNT_F_EMPTY_PATH) < 0:
        raise_errno("move_mount", target)


def fsopen(fstype: str) -> int:
    """A context to configure a new filesystem of this type in."""
    fd = _fsopen(encode(fstype), FSOPEN_CLOEXEC)
    if fd < 0:
        raise_errno("fsopen", fstype)
    return fd


def fsconfig_flag(context: int, key: str) -> None:
    if _fsconfig(context, FSCONFIG_SET_FLAG, encode(key), None, 0) < 0:
        _raise_with_log(context, f"option {key}")


def fsconfig_string(context: int, key: str, value: str) -> None:
    if key.endswith("context"):  # of SELinux, quoted for mount(2) as there may be commas in it
        value = value.strip('"')
    if _fsconfig(context, FSCONFIG_SET_STRING, encode(key), encode(value), 0) < 0:
        _raise_with_log(context, f"option {key}")


def fsconfig_fd(context: int, key: str, fd: int) -> None:
    if _fsconfig(context, FSCONFIG_SET_FD, encode(key), None, fd) < 0:
        _raise_with_log(context, f"option {key}")


def fsconfig_create(context: int) -> None:
    """Make the superblock from what was set."""
    if _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0) < 0:
        _raise_with_log(context, "superblock")


def fsconfig_reconfigure(context: int) -> None:
    if _fsconfig(context, FSCONFIG_CMD_RECONFIGURE, None, None, 0) < 0:
        _raise_with_log(context, "superblock")


def fsmount(context: int, attributes: int = 0) -> int:
    """A detached mount of the filesystem made in `context`; `attributes` are MOUNT_ATTR_*."""
    fd = _fsmount(context, FSMOUNT_CLOEXEC, attributes)
    if fd < 0:
        raise_errno("fsmount")
    return fd


def fspick(path: StrPath, directory: int = AT_FDCWD, flags: int = 0) -> int:
    """A context to reconfigure the filesystem mounted at `path` with."""
    fd = _fspick(directory, encode(path), flags | 1)  # FSPICK_CLOEXEC
    if fd < 0:
        raise_errno("fspick", path)
    return fd


def new_filesystem(fstype: str, options: dict[str, str | None], attributes: int = 0) -> int:
    """A detached mount of a new filesystem; an option whose value is None is a flag."""
    context = fsopen(fstype)
    try:
        _set_options(context, options)
        fsconfig_create(context)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def reconfigure(mount_fd: int, options: dict[str, str | None]) -> None:
    """Change options of the filesystem that is mounted at `mount_fd`."""
    context = fspick("", mount_fd, FSPICK_EMPTY_PATH)
    try:
        _set_options(context, options)
        fsconfig_reconfigure(context)
    finally:
        os.close(context)


def _set_options(context: int, options: dict[str, str | None]) -> None:
    for key, value in options.items():
        if value is None:
            fsconfig_flag(context, key)
        else:
            fsconfig_string(context, key, value)


def mount_setattr(
    mount_fd: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
    path: StrPath = "",
) -> None:
    """Change the attributes of a mount; MOUNT_ATTR_* and, for `propagation`, MS_SHARED etc."""
    value = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(value)
    if _mount_setattr(mount_fd, encode(path), flags, ctypes.byref(value), size) < 0:
        raise_errno("mount_setattr", path or None)


def _raise_with_log(context: int, what: str) -> None:
    """The kernel says in the context's log why it refused; errno alone is too short."""
    number = ctypes.get_errno()
    reasons: list[str] = []
    while len(reasons) < 8:
        try:
            reasons.append(os.read(context, LONGEST_KERNEL_LOG_LINE).decode(errors="replace"))
        except OSError:
            break
    error = os_error(number or errno.EINVAL, "fsconfig", what)
    if reasons:
        error.strerror = f"{error.strerror} ({'; '.join(line.strip() for line in reasons)})"
    raise error
