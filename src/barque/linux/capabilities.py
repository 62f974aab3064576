"""Capabilities: the five sets of a process. capabilities(7)."""

from __future__ import annotations

import ctypes
import errno

from barque.linux.libc import prototype, raise_errno
from barque.linux.process import (
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_SET_KEEPCAPS,
    prctl,
)

# In the order of their numbers.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_Both = _Data * 2
_prctl = prototype("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_capset = prototype("capset", ctypes.POINTER(_Header), ctypes.POINTER(_Both))
_capget = prototype("capget", ctypes.POINTER(_Header), ctypes.POINTER(_Both))


def mask(names: list[str] | tuple[str, ...]) -> int:
    """The bits of these names; KeyError names an unknown one."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """Set the three sets of this thread; each is a bit mask."""
    data = _Both()
    for index in (0, 1):
        shift = 32 * index
        data[index].effective = effective >> shift & 0xFFFFFFFF
        data[index].permitted = permitted >> shift & 0xFFFFFFFF
        data[index].inheritable = inheritable >> shift & 0xFFFFFFFF
    if _capset(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(data)) < 0:
        raise_errno("capset")


def capget(pid: int = 0) -> tuple[int, int, int]:
    """Effective, permitted and inheritable bits."""
    data = _Both()
    if _capget(ctypes.byref(_Header(_VERSION_3, pid)), ctypes.byref(data)) < 0:
        raise_errno("capget")
    return (
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
        data[0].inheritable | data[1].inheritable << 32,
    )


def bounding() -> int:
    """The bounding set of this thread."""
    bits = 0
    for number in range(64):
        try:
            if prctl(PR_CAPBSET_READ, number):
                bits |= 1 << number
        except OSError:
            break
    return bits


def drop_bounding(keep: int) -> None:
    """Leave only `keep` in the bounding set; needs CAP_SETPCAP."""
    for number in range(64):
        if keep >> number & 1:
            continue
        if _prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL and number >= len(NAMES) - 3:
                break  # not known to this kernel
            raise_errno("prctl")


def set_ambient(bits: int) -> None:
    """The ambient set; each bit must be permitted and inheritable."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(64):
        if bits >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def keep_over_setuid(value: bool) -> None:
    """Whether permitted capabilities stay when all uids leave 0. PR_SET_KEEPCAPS."""
    prctl(PR_SET_KEEPCAPS, int(value))
