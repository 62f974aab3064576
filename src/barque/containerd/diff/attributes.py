"""What an entry of a layer has beside its data: kind, owner, mode, extended attributes, times."""

from __future__ import annotations

import errno
import os
import stat

from barque.containerd.diff.directories import path_below
from barque.errors import DataLoss, InvalidArgument, ResourceExhausted
from barque.oci import tar

# An image must not speak to overlayfs, or to us: with these it could redirect a lookup.
FOREIGN_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"trusted.barque.")


def make_node(entry: tar.Entry, parent: int, name: bytes) -> None:
    if entry.kind == tar.FIFO:
        os.mkfifo(name, 0o600, dir_fd=parent)
        return
    kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
    if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
        raise InvalidArgument(f"layer has a device number out of range: {entry.name!r}")
    os.mknod(name, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)


def set_attributes(entry: tar.Entry, parent: int, name: bytes) -> None:
    """Ownership first: the kernel clears set-id bits and capabilities when it changes."""
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.kind != tar.SYMLINK:
        os.chmod(name, entry.mode, dir_fd=parent)
    if entry.xattrs:
        set_xattrs(path_below(parent, name), entry)
    times = (entry.mtime_ns, entry.mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def set_xattrs(target: int | bytes, entry: tar.Entry) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(FOREIGN_XATTRS):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a file system without this kind has none to keep
                raise


def explained(error: OSError, entry: tar.Entry) -> Exception:
    """What an entry met: what is the archive's fault is told as such."""
    name = entry.name.decode(errors="replace")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"no space left on device for {name!r} of a layer")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EEXIST):
        return InvalidArgument(f"layer entry {name!r} can not be made: {error.strerror}")
    if error.errno in (errno.EINVAL, errno.ENAMETOOLONG, errno.ERANGE, errno.EOVERFLOW):
        return InvalidArgument(f"layer entry {name!r} can not be made: {error.strerror}")
    return DataLoss(f"layer entry {name!r} can not be made: {error.strerror}")
