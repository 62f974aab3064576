"""A forked process of ours that is about to be inside a container: nothing may load code there.

After the root changes, every file this process could open by path is the container's. So import is
switched off before, by name and by mechanism, and nothing is left to find a module with.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import builtins
import os
import sys

from barque.linux.process import CLOSE_RANGE_CLOEXEC, LAST_FD, close_range, default_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

KILL_AND_STOP = (9, 19)
LAST_SIGNAL = 64
CLIB_SIGNALS = (32, 33)  # the C library keeps them for itself; who started us may ignore them


# What modules are found with. It is kept: to free it all would be to write to a hundred pages more.
_FINDERS = (sys.meta_path, sys.path_hooks, sys.path_importer_cache, sys.path)


def refuse_import(name: str, *_: Any, **__: Any) -> NoReturn:
    raise ImportError(f"import of {name} in a container's process")


def forbid_imports() -> None:
    """No import statement works from here on, not even of what is loaded."""
    builtins.__import__ = refuse_import
    sys.meta_path, sys.path_hooks, sys.path_importer_cache, sys.path = [], [], {}, []


def ignore_wakeup() -> None:
    """Signals are told to no pipe, which is the maker's."""
    _signal.set_wakeup_fd(-1)


def restore_signals() -> None:
    """Default handlers and an empty mask: the interpreter ignores SIGPIPE, a program must not."""
    _signal.set_wakeup_fd(-1)
    for number in range(1, LAST_SIGNAL + 1):
        if number in CLIB_SIGNALS:
            default_signal(number)
        elif number not in KILL_AND_STOP and _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not named."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first)


def close_at_exec(first: int) -> None:
    """What is open from `first` on is closed by execve, whoever opened it."""
    close_range(first, LAST_FD, CLOSE_RANGE_CLOEXEC)


def inherit(first: int, count: int) -> None:
    """The caller's descriptors that the container's process gets."""
    for fd in range(first, first + count):
        os.set_inheritable(fd, True)
