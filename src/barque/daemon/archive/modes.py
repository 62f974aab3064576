"""File modes as Go's os.FileMode has them: what the API's path stat carries."""

from __future__ import annotations

import stat

DIRECTORY, SYMLINK, DEVICE, FIFO, SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
SET_UID, SET_GID, CHARACTER, STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_KINDS = {
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFBLK: DEVICE,
    stat.S_IFCHR: DEVICE | CHARACTER,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
}
_BITS = ((stat.S_ISUID, SET_UID), (stat.S_ISGID, SET_GID), (stat.S_ISVTX, STICKY))


def go_mode(mode: int) -> int:
    """`st_mode` as os.FileMode. Source: Go, package io/fs, FileMode."""
    result = (mode & 0o777) | _KINDS.get(stat.S_IFMT(mode), 0)
    for bit, go in _BITS:
        if mode & bit:
            result |= go
    return result
