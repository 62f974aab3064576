"""SELinux: whether this kernel labels processes and files by a policy. selinux(8)."""

from __future__ import annotations

import os

from barque.linux.fs import SELINUX_MAGIC, filesystem_magic, read_bounded

FILESYSTEM = "/sys/fs/selinux"
WITHOUT_POLICY = b"kernel"


def enabled() -> bool:
    """Whether a policy is loaded and its file system is there to write to: what sees it read-only
    (a container) is to take the kernel for one without, as libselinux does."""
    try:
        if filesystem_magic(FILESYSTEM) != SELINUX_MAGIC:
            return False
        if os.statvfs(FILESYSTEM).f_flag & os.ST_RDONLY:
            return False
        return read_bounded("/proc/self/attr/current").strip(b"\0\n") != WITHOUT_POLICY
    except OSError:
        return False
