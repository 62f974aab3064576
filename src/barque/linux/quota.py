"""Project quotas: a bound on what a tree takes. quotactl_fd(2), ioctl_xfs_fsgetxattr(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct

from barque.linux.libc import raise_errno, system_call

FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
FSXATTR = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize
Q_GETINFO = 0x800005
Q_GETQUOTA = 0x800007
Q_SETQUOTA = 0x800008
PRJQUOTA = 2
SUBCMD_SHIFT = 8
QIF_BLIMITS = 1
BLOCK_BYTES = 1024
# struct if_dqblk: hard and soft block limits, bytes used, hard and soft inode limits, inodes used,
# times of blocks and inodes, which of them are valid.
DQBLK = struct.Struct("=8QI4x")
DQINFO_BYTES = 24

_quotactl_fd = system_call(443, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p)


def project_quotas_on(fd: int) -> None:
    """Raises OSError where the file system of `fd` has no project quotas, or has them off."""
    buffer = ctypes.create_string_buffer(DQINFO_BYTES)
    if _quotactl_fd(fd, _command(Q_GETINFO), 0, buffer) < 0:
        raise_errno("quotactl_fd", fd)


def limit_project(fd: int, project: int, size: int) -> None:
    """`size` bytes at most for `project` on the file system of `fd`; 0 for no limit."""
    blocks = -(-size // BLOCK_BYTES)
    value = DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, QIF_BLIMITS)
    if _quotactl_fd(fd, _command(Q_SETQUOTA), project, value) < 0:
        raise_errno("quotactl_fd", fd)


def is_used(fd: int, project: int) -> bool:
    """Whether `project` has a limit, or holds anything, on the file system of `fd`."""
    buffer = ctypes.create_string_buffer(DQBLK.size)
    if _quotactl_fd(fd, _command(Q_GETQUOTA), project, buffer) < 0:
        if ctypes.get_errno() == errno.ENOENT:  # xfs: none of it was ever heard
            return False
        raise_errno("quotactl_fd", fd)
    hard, soft, used = DQBLK.unpack(buffer.raw)[:3]
    return bool(hard or soft or used)


def project_of(fd: int) -> int:
    """The project of an open file or directory; 0 for none."""
    raw = fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(FSXATTR.size))
    return int(FSXATTR.unpack(raw)[3])


def set_project(directory: int, project: int) -> None:
    """What is made below the open `directory` from now on belongs to `project`, as it does."""
    raw = fcntl.ioctl(directory, FS_IOC_FSGETXATTR, bytes(FSXATTR.size))
    flags, extent, extents, _, cow = FSXATTR.unpack(raw)
    value = FSXATTR.pack(flags | FS_XFLAG_PROJINHERIT, extent, extents, project, cow)
    fcntl.ioctl(directory, FS_IOC_FSSETXATTR, value)


def _command(number: int) -> int:
    return number << SUBCMD_SHIFT | PRJQUOTA
