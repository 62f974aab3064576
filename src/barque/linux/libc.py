"""The C library, loaded once; prototypes for its functions and for bare system calls.

Every wrapper of this package calls through here, so errno is read in one way (`ctypes` keeps a
private copy: `use_errno`). Numbers at and above 424 are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    StrPath: TypeAlias = str | bytes | os.PathLike[str]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000

MACHINE = os.uname().machine

libc = ctypes.CDLL(None, use_errno=True)


def prototype(name: str, *argtypes: Any) -> Callable[..., int]:
    """The libc function `name` with these argument types; it returns an int, -1 is failure."""
    function = libc[name]
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    call: Callable[..., int] = function
    return call


def system_call(number: int, *argtypes: Any) -> Callable[..., int]:
    """System call `number` with these argument types; it returns a long, -1 is failure."""
    function = libc["syscall"]
    function.argtypes = (ctypes.c_long, *argtypes)
    function.restype = ctypes.c_long

    def call(*arguments: Any) -> int:
        result: int = function(number, *arguments)
        return result

    return call


def raise_errno(call: str, path: StrPath | int | None = None) -> NoReturn:
    """Raise the OSError of the call that has just failed; `path` is the object it was about."""
    raise os_error(ctypes.get_errno(), call, path)


def os_error(number: int, call: str, path: StrPath | int | None = None) -> OSError:
    text = f"{call}: {os.strerror(number)}"
    if path is None or isinstance(path, int):
        return OSError(number, text)
    return OSError(number, text, os.fsdecode(path))


def encode(path: StrPath | None) -> bytes | None:
    """A path for the kernel; a NUL byte in it is an error, never a shorter path."""
    if path is None:
        return None
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("path contains a NUL byte")
    return raw
