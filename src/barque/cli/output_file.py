"""Archives that commands write: to a file, whole or not at all, or to the standard output."""

from __future__ import annotations

import os

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def refuse_terminal(path: str) -> None:
    """Raises InvalidArgument where an archive would be written to a terminal."""
    if not path and terminal.is_terminal(terminal.STDOUT):
        raise errors.InvalidArgument(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        )


def check(path: str, what: str) -> None:
    """Raises InvalidArgument, before anything is asked for, for a path that cannot be written."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise errors.InvalidArgument(
            f"{what}: invalid output path: stat {directory}: no such file or directory"
        )
    if os.path.isdir(path):
        raise errors.InvalidArgument(f'{what}: invalid output path: "{path}" is a directory')


def write(pieces: Iterable[bytes], path: str) -> None:
    """All of `pieces` to the file `path`, "" for the standard output.

    The file is there under its name when it is whole; what is no regular file (a fifo, /dev/null)
    is written as it is.
    """
    if not path:
        for piece in pieces:
            terminal.write(terminal.STDOUT, piece)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        _into(os.open(path, os.O_WRONLY | os.O_CLOEXEC), pieces)
        return
    passing = f"{path}.{os.getpid()}.part"
    fd = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _into(fd, pieces)
        os.replace(passing, path)
    except BaseException:
        os.unlink(passing)
        raise


def _into(fd: int, pieces: Iterable[bytes]) -> None:
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
    finally:
        os.close(fd)
