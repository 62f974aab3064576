"""Subvolumes and snapshots of btrfs, and their quotas. Source: linux/btrfs.h."""

from __future__ import annotations

import fcntl
import os
import struct

BTRFS_SUPER_MAGIC = 0x9123683E
NAME_BYTES_MAX = 255
FIRST_INODE = 256  # of every subvolume: its root
SUBVOL_RDONLY = 1 << 1
QUOTA_ENABLE = 1
LIMIT_MAX_RFER = 1 << 0

_IOC_SNAP_CREATE_V2 = 0x50009417
_IOC_SUBVOL_CREATE = 0x5000940E
_IOC_SNAP_DESTROY = 0x5000940F
_IOC_SUBVOL_GETFLAGS = 0x80089419
_IOC_SUBVOL_SETFLAGS = 0x4008941A
_IOC_QUOTA_CTL = 0xC0109428
_IOC_QGROUP_LIMIT = 0x8030942B
_VOL_ARGS = struct.Struct("=q4088s")
_VOL_ARGS_V2 = struct.Struct("=qQQ32x4040s")
_QGROUP_LIMIT = struct.Struct("=6Q")  # id (0: that of the descriptor); flags, referenced, ...


def create_subvolume(directory: int, name: str) -> None:
    fcntl.ioctl(directory, _IOC_SUBVOL_CREATE, _arguments(name))


def create_snapshot(source: int, directory: int, name: str, *, read_only: bool = False) -> None:
    """A snapshot `name` in `directory` of the subvolume whose root `source` is."""
    flags = SUBVOL_RDONLY if read_only else 0
    value = _VOL_ARGS_V2.pack(source, 0, flags, _encoded(name))
    fcntl.ioctl(directory, _IOC_SNAP_CREATE_V2, bytearray(value))


def destroy_subvolume(directory: int, name: str) -> None:
    """Its space is freed in the background. ENOTEMPTY: there are subvolumes in it."""
    fcntl.ioctl(directory, _IOC_SNAP_DESTROY, _arguments(name))


def is_subvolume(fd: int) -> bool:
    return os.fstat(fd).st_ino == FIRST_INODE


def set_read_only(subvolume: int, read_only: bool) -> None:
    raw = fcntl.ioctl(subvolume, _IOC_SUBVOL_GETFLAGS, bytes(8))
    (flags,) = struct.unpack("=Q", raw)
    flags = flags | SUBVOL_RDONLY if read_only else flags & ~SUBVOL_RDONLY
    fcntl.ioctl(subvolume, _IOC_SUBVOL_SETFLAGS, struct.pack("=Q", flags))


def enable_quota(fd: int) -> None:
    """For the whole file system; on is done."""
    fcntl.ioctl(fd, _IOC_QUOTA_CTL, bytearray(struct.pack("=QQ", QUOTA_ENABLE, 0)))


def limit_subvolume(subvolume: int, size: int) -> None:
    """What it refers to, shared or not, is `size` bytes at most."""
    fcntl.ioctl(subvolume, _IOC_QGROUP_LIMIT, _QGROUP_LIMIT.pack(0, LIMIT_MAX_RFER, size, 0, 0, 0))


def _arguments(name: str) -> bytearray:
    """Mutable, or the interpreter takes 1024 bytes only."""
    return bytearray(_VOL_ARGS.pack(0, _encoded(name)))


def _encoded(name: str) -> bytes:
    raw = os.fsencode(name)
    if not raw or len(raw) > NAME_BYTES_MAX or b"/" in raw or b"\0" in raw:
        raise ValueError(f"not the name of a subvolume: {name!r}")
    return raw
