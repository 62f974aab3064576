"""Namespaces: unshare(2), setns(2) and clone3(2)."""

from __future__ import annotations

import ctypes

from barque.linux.libc import prototype, raise_errno, system_call

CLONE_NEWTIME = 0x80
CLONE_VM = 0x100
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# The file in /proc/PID/ns of each namespace, with its flag.
PROC_NAMES = {
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
    "mnt": CLONE_NEWNS,
}


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


_unshare = prototype("unshare", ctypes.c_int)
_setns = prototype("setns", ctypes.c_int, ctypes.c_int)
_clone3 = system_call(435, ctypes.c_void_p, ctypes.c_size_t)


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* and enter new ones."""
    if _unshare(flags) < 0:
        raise_errno("unshare")


def setns(fd: int, kinds: int = 0) -> None:
    """Enter the namespace `fd`, or, when `fd` is a pidfd, the `kinds` of that process."""
    if _setns(fd, kinds) < 0:
        raise_errno("setns")


def clone3(flags: int, *, exit_signal: int, cgroup_fd: int = -1) -> int:
    """fork into new namespaces; returns the child's pid, in the child 0.

    The child has only this thread, as after os.fork(), but none of Python's hooks run: for a
    process with one thread that is no loss. `cgroup_fd` (cgroup v2) is where the child is born.
    """
    value = _CloneArgs(flags=flags, exit_signal=exit_signal)
    if cgroup_fd >= 0:
        value.flags |= CLONE_INTO_CGROUP
        value.cgroup = cgroup_fd
    pid = _clone3(ctypes.addressof(value), ctypes.sizeof(value))
    if pid < 0:
        raise_errno("clone3")
    return pid
