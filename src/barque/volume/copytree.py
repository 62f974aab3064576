"""Copy a tree by file descriptors: nothing in the source or in the target can lead elsewhere.

Every entry is opened relative to its directory without following links; what is made is made
exclusively. Owners, modes, times, extended attributes, links, devices and fifos are kept; sockets
are left out.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from barque import errors
from barque.linux.fs import open_beneath
from barque.linux.whole_file import clone_file, data_extents

MAX_DEPTH = 300  # two descriptors a level
CHUNK_BYTES = 1 << 24
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: int, target: int) -> None:
    """Copy what is in directory `source` into the empty directory `target`, and its attributes.

    Raises OSError as the kernel says, ResourceExhausted for a tree that is too deep.
    """
    _Copy(target).directory(source, target, "")


class _Copy:
    def __init__(self, root: int) -> None:
        self._root = root
        self._linked: dict[tuple[int, int], str] = {}  # files with more names -> path of the copy

    def directory(self, source: int, target: int, path: str) -> None:
        if path.count("/") > MAX_DEPTH:
            raise errors.ResourceExhausted(f"deeper than {MAX_DEPTH} directories: {path[:80]}")
        for name in os.listdir(source):
            self._entry(source, target, name, f"{path}/{name}")
        _copy_attributes(source, target)

    def _entry(self, source: int, target: int, name: str, path: str) -> None:
        facts = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFDIR:
            self._subdirectory(source, target, name, path)
        elif kind == stat.S_IFSOCK or (
            facts.st_nlink > 1 and self._link(facts, target, name, path)
        ):
            return
        elif kind == stat.S_IFREG:
            _copy_file(source, target, name)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, facts.st_uid, facts.st_gid, dir_fd=target, follow_symlinks=False)
            times = (facts.st_atime_ns, facts.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, kind | 0o600, facts.st_rdev, dir_fd=target)
            _set_node(target, name, facts)

    def _subdirectory(self, source: int, target: int, name: str, path: str) -> None:
        from_fd = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            to_fd = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                self.directory(from_fd, to_fd, path)
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)

    def _link(self, facts: os.stat_result, target: int, name: str, path: str) -> bool:
        """Link to the copy made before of a file with more names; False for the first of them."""
        first = self._linked.setdefault((facts.st_dev, facts.st_ino), path)
        if first == path:
            return False
        fd = open_beneath(self._root, first.lstrip("/"), os.O_PATH | os.O_NOFOLLOW)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=target, follow_symlinks=True)
        finally:
            os.close(fd)
        return True


def _copy_file(source: int, target: int, name: str) -> None:
    from_fd = os.open(name, _FILE, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(from_fd).st_mode):
            raise OSError(errno.ESTALE, f"{name} changed while it was copied")
        to_fd = os.open(name, _NEW_FILE, 0o600, dir_fd=target)
        try:
            _copy_bytes(from_fd, to_fd)
            _copy_attributes(from_fd, to_fd)
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def _copy_bytes(source: int, target: int) -> None:
    """Shared blocks where the filesystem has them, else what is not a hole."""
    if clone_file(source, target):
        return
    size = os.fstat(source).st_size
    for offset, length in data_extents(source, size):
        _copy_extent(source, target, offset, length)
    if os.fstat(target).st_size < size:
        os.ftruncate(target, size)


def _copy_extent(source: int, target: int, offset: int, length: int) -> None:
    """Up to the end of a file that shrinks meanwhile."""
    end = offset + length
    try:
        while offset < end:
            many = min(end - offset, CHUNK_BYTES)
            done = os.copy_file_range(source, target, many, offset, offset)
            if not done:
                return
            offset += done
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        os.lseek(target, offset, os.SEEK_SET)
        while offset < end:
            done = os.sendfile(target, source, offset, min(end - offset, CHUNK_BYTES))
            if not done:
                return
            offset += done


def _copy_attributes(source: int, target: int) -> None:
    """Owner, mode, extended attributes, times: in this order, for each clears what comes later."""
    facts = os.fstat(source)
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    for key in _attribute_names(source):
        with suppress(OSError):  # not every filesystem keeps every attribute
            os.setxattr(target, key, os.getxattr(source, key))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _attribute_names(fd: int) -> list[str]:
    """What is worth keeping; overlay's own marks are not."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return []
    return [name for name in names if not name.startswith(("trusted.overlay.", "user.overlay."))]


def _set_node(directory: int, name: str, facts: os.stat_result) -> None:
    os.chown(name, facts.st_uid, facts.st_gid, dir_fd=directory, follow_symlinks=False)
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(facts.st_mode))
        os.utime(f"/proc/self/fd/{fd}", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    finally:
        os.close(fd)
