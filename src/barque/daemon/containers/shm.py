"""The /dev/shm that several containers share: a tmpfs of the host's, for the donor's lifetime."""

from __future__ import annotations

import os
from contextlib import suppress

from barque.daemon.paths import Paths
from barque.linux.mount import (
    MNT_DETACH,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    UMOUNT_NOFOLLOW,
    mount,
    umount2,
)


def mount_shm(
    paths: Paths,
    container_id: str,
    size_bytes: int,
    owner: tuple[int, int] | None = None,
    label: str = "",
) -> str:
    """Mount it; its path. One that a crash left is replaced."""
    unmount_shm(paths, container_id)
    path = str(paths.shm(container_id))
    os.mkdir(path, 0o700)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    data = f"mode=1777,size={size_bytes}"
    if owner is not None:
        data += ",uid={},gid={}".format(*owner)
    if label:
        data += f',context="{label}"'
    mount("shm", path, "tmpfs", flags, data)
    return path


def unmount_shm(paths: Paths, container_id: str) -> None:
    """Idempotent."""
    path = str(paths.shm(container_id))
    if not os.path.lexists(path):
        return
    with suppress(OSError):  # not mounted any more
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW)
    with suppress(FileNotFoundError):
        os.rmdir(path)
