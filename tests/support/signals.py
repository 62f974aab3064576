"""The signals of the test process, which every program that a test starts inherits."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barque.linux.process import default_signal

CLIB_SIGNALS = (32, 33)  # the C library keeps them for itself: sigaction(3) refuses them


def inherited() -> dict[str, str]:
    """What a child would have blocked and ignored: masks in hex (proc(5), status)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return dict(line.split(":\t") for line in lines if line.startswith(("SigBlk", "SigIgn")))


def reset() -> None:
    """Nothing is blocked, nothing ignored but what the interpreter ignores for itself."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    for kept in CLIB_SIGNALS:
        default_signal(kept)


@contextmanager
def hostile() -> Iterator[None]:
    """Be a parent that blocks and ignores what it can."""
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    action = bytes(ctypes.c_uint64(signal.SIG_IGN)) + bytes(24)  # the kernel's struct sigaction
    for number in CLIB_SIGNALS:
        assert ctypes.CDLL(None).syscall(13, number, action, None, ctypes.c_size_t(8)) == 0
    try:
        yield
    finally:
        for number in CLIB_SIGNALS:
            default_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, before)
