"""Files: openat2(2), trees removed without crossing a mount, writes that are whole or absent."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from barque.linux.libc import encode, os_error, prototype, raise_errno, system_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.linux.libc import StrPath

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

WRITE_BYTES = 64 << 10  # of one call of `write_at`

O_PATH = os.O_PATH
O_TMPFILE = os.O_TMPFILE

CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
TMPFS_MAGIC = 0x01021994
DEVPTS_SUPER_MAGIC = 0x1CD1
NSFS_MAGIC = 0x6E736673
RESCTRL_MAGIC = 0x7655821
SELINUX_MAGIC = 0xF97CFF8C

SELINUX_ATTRIBUTE = "security.selinux"  # a file's label

TRIES = 128  # an openat2 that races a rename says EAGAIN; a hostile renamer must not hold us
DEEPEST = 64  # levels of open directories while a tree is removed


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class _StatFs(ctypes.Structure):
    _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_byte * 248))


_openat2 = system_call(
    437, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t
)
_statfs = prototype("statfs", ctypes.c_char_p, ctypes.POINTER(_StatFs))
_fstatfs = prototype("fstatfs", ctypes.c_int, ctypes.POINTER(_StatFs))
_syncfs = prototype("syncfs", ctypes.c_int)


def openat2(directory: int, path: StrPath, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec; EAGAIN (a rename ran at the same time) is tried again."""
    fd = try_openat2(directory, path, flags, mode=mode, resolve=resolve)
    if fd < 0:
        raise os_error(-fd, "openat2", path)
    return fd


def try_openat2(
    directory: int, path: StrPath, flags: int, *, mode: int = 0, resolve: int = 0
) -> int:
    """`openat2` for who expects it to fail: what it says then is returned, negative."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    raw = encode(path)
    for _ in range(TRIES):
        fd = _openat2(directory, raw, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            return -number
    return -errno.EAGAIN


def open_in_root(root: int, path: StrPath, flags: int, mode: int = 0) -> int:
    """Open `path` as a process whose root is `root` would: links and `..` cannot lead out."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    return openat2(root, path, flags, mode=mode, resolve=resolve)


def open_beneath(directory: int, path: StrPath, flags: int, mode: int = 0) -> int:
    """Open `path` below `directory` with no symbolic link and no other mount on the way."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    return openat2(directory, path, flags, mode=mode, resolve=resolve)


def filesystem_magic(target: StrPath | int) -> int:
    """The type of the filesystem `target` (a path or a file descriptor) lies on."""
    value = _StatFs()
    if isinstance(target, int):
        failed = _fstatfs(target, ctypes.byref(value)) < 0
    else:
        failed = _statfs(encode(target), ctypes.byref(value)) < 0
    if failed:
        raise_errno("statfs", target)
    return int(value.type) & 0xFFFFFFFF


def read_bounded(path: StrPath, limit: int = 1 << 20, directory: int | None = None) -> bytes:
    """The content of a regular (or kernel-made) file, at most `limit` bytes; larger is EFBIG."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        return read_fd_bounded(fd, limit)
    finally:
        os.close(fd)


def read_fd_bounded(fd: int, limit: int = 1 << 20) -> bytes:
    chunks = []
    size = 0
    while chunk := os.read(fd, min(65536, limit + 1 - size)):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes")
    return b"".join(chunks)


def write_file(path: StrPath, data: bytes | str, directory: int | None = None) -> None:
    """One write to an existing file (of /proc, /sys, a cgroup): the kernel takes it whole."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, data.encode() if isinstance(data, str) else data)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, data: bytes | memoryview, offset: int) -> int:
    """All of `data` from `offset` on; where it ends. By pieces that the kernel finds pages for at
    once: for a larger one it looks for pages that lie together."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view[:WRITE_BYTES], offset)
        view, offset = view[written:], offset + written
    return offset


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = False) -> None:
    """Replace `path` by a file with this content: readers see the old or the new, whole.

    `durable` returns only when it would survive a power loss (file and directory synced).
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.rpartition("/")[0] or ".")


def sync_directory(path: StrPath) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: StrPath) -> None:
    """syncfs(2): all that was written to the filesystem of the directory `path` is durable when
    this returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _syncfs(fd) < 0:
            raise_errno("syncfs", fd)
    finally:
        os.close(fd)


def remove_tree(path: StrPath) -> None:
    """Remove a file or a directory with all in it; one that is gone is done.

    Never crosses a mount point (EBUSY or EXDEV is raised, and nothing in the mount is touched) and
    never follows a symbolic link. At most `DEEPEST` directories are open: deeper ones are moved up.
    """
    parent, _, name = os.fspath(os.fsdecode(path)).rstrip("/").rpartition("/")
    try:
        directory = os.open(
            parent or ("/" if os.fsdecode(path).startswith("/") else "."),
            os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
        )
    except FileNotFoundError:
        return
    try:
        remove_at(directory, name)
    finally:
        os.close(directory)


def remove_at(directory: int, name: str) -> None:
    """`remove_tree` for the entry `name` of an open directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        top = _enter(directory, name)
        if top is None:
            return
        try:
            _empty(top, top, 0)
        finally:
            os.close(top)
        try:
            os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            return


def _enter(directory: int, name: str) -> int | None:
    try:
        return open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def _empty(top: int, directory: int, depth: int) -> None:
    """Remove what is in `directory`; what is too deep becomes an entry of `top`, met later."""
    again = True
    while again:
        again = False
        for name in os.listdir(directory):
            try:
                os.unlink(name, dir_fd=directory)
                continue
            except FileNotFoundError:
                continue
            except (IsADirectoryError, PermissionError):
                if not _is_directory(directory, name):
                    raise
            if depth >= DEEPEST:
                os.rename(
                    name, f".removed-{os.urandom(8).hex()}", src_dir_fd=directory, dst_dir_fd=top
                )
                continue
            child = _enter(directory, name)
            if child is not None:
                try:
                    _empty(top, child, depth + 1)
                finally:
                    os.close(child)
                os.rmdir(name, dir_fd=directory)
        if depth == 0:
            again = bool(os.listdir(directory))


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return True
