"""The process's own standard streams: whole texts, sizes, and the raw mode of a terminal."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDIN, STDOUT, STDERR = 0, 1, 2


def write(fd: int, data: bytes | memoryview) -> None:
    """All of `data`. A reader that has gone ends the process as SIGPIPE does any other program."""
    view = memoryview(data)
    try:
        while view:
            view = view[posix.write(fd, view) :]
    except BrokenPipeError:
        import _signal  # type: ignore[import-not-found]

        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        posix.kill(posix.getpid(), _signal.SIGPIPE)


def out(text: str) -> None:
    write(STDOUT, _encoded(text))


def err(text: str) -> None:
    write(STDERR, _encoded(text))


def _encoded(text: str) -> bytes:
    """A path's bytes as they are; what else is no text (half of a pair in an answer) as "?"."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def confirmed(warning: str) -> bool:
    """Whether our user answers the question that ends `warning` with yes."""
    out(warning)
    return posix.read(STDIN, 64).strip().lower() in (b"y", b"yes")


def is_terminal(fd: int) -> bool:
    try:
        return posix.isatty(fd)
    except OSError:
        return False


def size(fd: int) -> tuple[int, int]:
    """(rows, columns), or (0, 0) where `fd` is no terminal."""
    try:
        columns, rows = posix.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return rows, columns


class Raw:
    """With it, the terminal at `fd` passes every byte on; after it, it is as it was before."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []

    def __enter__(self) -> Raw:
        import termios

        self._before = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
