"""System calls of a process that is to touch as little memory as it can.

In a process forked from a warm one each page that it writes to becomes its own, and a page is
written to for every object whose references are counted. So all calls are one function, made
beforehand, with numbers and addresses that are made beforehand too: a call costs a page or none.
The function tells no errno, and gives the interpreter's lock to nobody: for one thread.
"""

from __future__ import annotations

import ctypes

from barque.linux.libc import MACHINE, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = {  # x86_64, and the table that newer machines share
    "close": (3, 57),
    "clone": (56, 220),
    "epoll_pwait": (281, 22),
    "getpid": (39, 172),
    "madvise": (28, 233),
    "prctl": (157, 167),
    "read": (0, 63),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "setsid": (112, 157),
    "wait4": (61, 260),
    "write": (1, 64),
}
_COLUMN = 0 if MACHINE == "x86_64" else 1
CLOSE, CLONE, EPOLL_PWAIT, GETPID, MADVISE, PRCTL, READ = (
    _NUMBERS[name][_COLUMN]
    for name in ("close", "clone", "epoll_pwait", "getpid", "madvise", "prctl", "read")
)
RT_SIGACTION, RT_SIGPROCMASK, SETSID, WAIT4, WRITE = (
    _NUMBERS[name][_COLUMN]
    for name in ("rt_sigaction", "rt_sigprocmask", "setsid", "wait4", "write")
)
SIGACTION_SIZE = 64  # of the kernel's struct on every machine, or more
SIGSET_SIZE = 8

_syscall = ctypes.PyDLL(None)["syscall"]
_syscall.argtypes = (ctypes.c_long,) * 7
_syscall.restype = ctypes.c_long
call: Callable[[int, int, int, int, int, int, int], int] = _syscall


class Memory:
    """Bytes at an address that stays: for the kernel to read from and write to."""

    __slots__ = ("_buffer", "address")

    def __init__(self, content: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self._buffer)

    def content(self) -> bytes:
        return self._buffer.raw


INT_SIZE = 4


class Numbers:
    """Ints of 32 bits, one after the other, at an address that stays."""

    __slots__ = ("address", "cells")

    def __init__(self, count: int) -> None:
        self.cells = (ctypes.c_int * count)()
        self.address = ctypes.addressof(self.cells)


def signal_set(*numbers: int) -> Memory:
    """A set of signals, as the kernel has it."""
    bits = sum(1 << (number - 1) for number in numbers)
    return Memory(bits.to_bytes(SIGSET_SIZE, "little"))


def handled_by_nothing(number: int) -> Memory:
    """A sigaction for a signal that now has a handler of the C library's making: with one that
    returns at once. It interrupts calls, and is at its default after execve."""
    now = Memory(bytes(SIGACTION_SIZE))
    if call(RT_SIGACTION, number, 0, now.address, SIGSET_SIZE, 0, 0) != 0:
        raise OSError(f"rt_sigaction: signal {number}")
    harmless = ctypes.cast(libc["abs"], ctypes.c_void_p).value or 0
    return Memory(harmless.to_bytes(8, "little") + now.content()[8:])
