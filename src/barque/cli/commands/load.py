"""`barque load`: images from the archive that `save` wrote."""

from __future__ import annotations

import os

from barque import errors
from barque.cli import progress, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Take images from an archive"
ALIASES = ("image load", "load")
OPTIONS: tuple[Row, ...] = (
    ("input", "i", "string", "Read this file in place of STDIN"),
    ("platform", "", "stringSlice", "Only these platforms"),
    ("quiet", "q", "bool", "No progress"),
)
ARGUMENTS = (0, 0)

READ_BYTES = 256 << 10


def pieces(fd: int) -> Iterator[bytes]:
    """All of an open file."""
    while piece := os.read(fd, READ_BYTES):
        yield piece


def open_file(path: str) -> int:
    """Raises InvalidArgument."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.InvalidArgument(f"open {path}: {(error.strerror or '').lower()}") from None
    if os.path.isdir(path):
        os.close(fd)
        raise errors.InvalidArgument(f"read {path}: is a directory")
    return fd


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if "platform" in options:
        session.require("platform", "1.48")
    path = options.text("input")
    fd = open_file(path) if path else terminal.STDIN
    if not path and terminal.is_terminal(fd):
        raise errors.InvalidArgument("requested load from stdin, but stdin is empty")
    quiet = options.flag("quiet") or not terminal.is_terminal(terminal.STDOUT)
    reply = session.client.images.load(pieces(fd), quiet=quiet, platforms=options.all("platform"))
    if "json" in reply.headers.get("content-type", ""):
        progress.show(reply.documents(), terminal.STDOUT)
    else:
        for piece in reply.pieces():
            terminal.write(terminal.STDOUT, piece)
    return 0
