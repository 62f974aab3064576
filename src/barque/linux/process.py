"""Processes: pidfds, prctl(2), capabilities' securebits, the session keyring."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import ctypes
import os

from barque.linux.libc import MACHINE, prototype, raise_errno, system_call

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
# All to who has it; to its user view, read, search (which joining takes) and link.
SESSION_KEYRING_PERMISSIONS = 0x3F1B0000
SIGACTION_SIZE = 32  # bytes of the kernel's struct on every 64-bit machine, or more
SIGSET_SIZE = 8
LONGEST_PATH = 4097  # bytes, with its NUL

_prctl = prototype("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_prctl_name = prototype("prctl", ctypes.c_int, ctypes.c_char_p, *[ctypes.c_ulong] * 3)
_close_range = system_call(436, ctypes.c_uint, ctypes.c_uint, ctypes.c_int)
_pidfd_getfd = system_call(438, ctypes.c_int, ctypes.c_int, ctypes.c_uint)
_personality = prototype("personality", ctypes.c_ulong)
_getcwd = system_call(
    {"x86_64": 79, "aarch64": 17, "riscv64": 17}[MACHINE], ctypes.c_char_p, ctypes.c_size_t
)
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}[MACHINE]
_keyctl = system_call(_KEYCTL, ctypes.c_int, ctypes.c_char_p)
_keyctl_of_number = system_call(_KEYCTL, ctypes.c_int, ctypes.c_int, ctypes.c_uint)
_rt_sigaction = system_call(
    {"x86_64": 13, "aarch64": 134, "riscv64": 134}[MACHINE],
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)
CLONE_NUMBER = {"x86_64": 56, "aarch64": 220, "riscv64": 220}[MACHINE]
# The interpreter's lock is kept: who is forked has it.
_clone = ctypes.PyDLL(None, use_errno=True)["syscall"]
_clone.argtypes = (ctypes.c_long,) * 6
_clone.restype = ctypes.c_long
_sethostname = prototype("sethostname", ctypes.c_char_p, ctypes.c_size_t)
_setdomainname = prototype("setdomainname", ctypes.c_char_p, ctypes.c_size_t)

_PathBuffer = ctypes.c_char * LONGEST_PATH  # made once: a type is hundreds of objects
LAST_FD = 0xFFFFFFFF
SIGCHLD = 17
CLONE_FS = 0x200
CLONE_FILES = 0x400


def fork(*, share: bool = False) -> int:
    """fork(2) of a process with one thread: the child's pid, in the child 0.

    None of what `os.fork` does in the child (for other threads' locks) is done: that writes to some
    160 pages, each of which is copied. `share`: both have one table of descriptors, so that what
    one opens or closes the other has open or closed, one working directory and one umask.
    """
    shared = CLONE_FS | CLONE_FILES if share else 0
    # the order of clone's arguments differs between machines, but for the first all are zero
    pid: int = _clone(CLONE_NUMBER, SIGCHLD | shared, 0, 0, 0, 0)
    if pid < 0:
        raise_errno("fork")
    return pid


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """prctl(2) with numeric arguments."""
    result = _prctl(option, value, third, 0, 0)
    if result < 0:
        raise_errno("prctl")
    return result


def set_name(name: str) -> None:
    """The name that ps shows, 15 bytes of it."""
    if _prctl_name(PR_SET_NAME, name.encode()[:15], 0, 0, 0) < 0:
        raise_errno("prctl")


def set_child_subreaper() -> None:
    """Orphaned descendants become children of this process."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signal: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal)


def set_dumpable(value: bool) -> None:
    """Not dumpable: no ptrace, and /proc/PID/{fd,exe,mem,...} belong to the host's root."""
    prctl(PR_SET_DUMPABLE, int(value))


def default_signal(number: int) -> None:
    """The default action for a signal, also for those that the C library's sigaction refuses."""
    action = bytes(SIGACTION_SIZE)  # SIG_DFL, no flags, an empty mask
    if _rt_sigaction(number, action, None, SIGSET_SIZE) < 0:
        raise_errno("rt_sigaction")


def set_no_new_privs() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def close_range(first: int, last: int = LAST_FD, flags: int = 0) -> None:
    """Close (or mark, CLOSE_RANGE_CLOEXEC) every file descriptor from `first` to `last`."""
    if _close_range(first, last, flags) < 0:
        raise_errno("close_range")


def place_stdio(streams: tuple[int, int, int] | None) -> None:
    """Make these its descriptors 0, 1 and 2, inheritable; None: /dev/null."""
    if streams is None:
        null = os.open("/dev/null", os.O_RDWR)
        streams = (null, null, null)
    # First out of the way of each other, then to their places.
    high = [os.dup(fd) if fd < 3 else fd for fd in streams]
    for place, fd in enumerate(high):
        os.dup2(fd, place)


def parent_of(pid: int) -> int:
    """Its parent's pid; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            raw = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(raw[raw.rindex(b")") + 2 :].split()[1])


def pidfd_getfd(pidfd: int, number: int) -> int:
    """A copy of the file descriptor `number` of another process, which the caller may ptrace."""
    fd = _pidfd_getfd(pidfd, number, 0)
    if fd < 0:
        raise_errno("pidfd_getfd")
    return fd


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    _signal.pidfd_send_signal(pidfd, signal)


def wait_pidfd(pidfd: int, *, block: bool = True) -> int | None:
    """The exit code of a child (128 + signal when killed), or None: not ended. Reaps it."""
    options = os.WEXITED | (0 if block else os.WNOHANG)
    result = os.waitid(os.P_PIDFD, pidfd, options)
    if result is None:
        return None
    killed = result.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
    return result.si_status + 128 if killed else result.si_status


def set_personality(persona: int) -> None:
    if _personality(persona) < 0:
        raise_errno("personality")


def kernel_getcwd() -> bytes:
    """The working directory as the kernel names it: "(unreachable)..." when outside the root.

    os.getcwd() hides that: the C library makes an error of it.
    """
    buffer = _PathBuffer()
    if _getcwd(buffer, LONGEST_PATH) < 0:
        raise_errno("getcwd")
    return buffer.value


def join_session_keyring(name: str) -> None:
    """The session keyring of this name: the caller's keys stay behind. One that is not there yet is
    made, empty, so that this user's later processes may join it too. session-keyring(7)."""
    keyring = _keyctl(KEYCTL_JOIN_SESSION_KEYRING, name.encode())
    if keyring < 0:
        raise_errno("keyctl", name)
    _keyctl_of_number(KEYCTL_SETPERM, keyring, SESSION_KEYRING_PERMISSIONS)


def set_hostname(name: str) -> None:
    raw = name.encode()
    if _sethostname(raw, len(raw)) < 0:
        raise_errno("sethostname", name)


def set_domainname(name: str) -> None:
    raw = name.encode()
    if _setdomainname(raw, len(raw)) < 0:
        raise_errno("setdomainname", name)
