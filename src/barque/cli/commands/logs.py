"""`barque logs`: what a container has written."""

from __future__ import annotations

from barque import errors
from barque.api.frames import STDERR, FrameReader
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER"
SUMMARY = "Show what a container has written"
ALIASES = ("container logs", "logs")
OPTIONS: tuple[Row, ...] = (
    ("details", "", "bool", "Show the attributes that the log driver keeps with a line"),
    ("follow", "f", "bool", "Go on with what is written from now"),
    ("since", "", "string", "From this time on (2013-01-02T13:23:37Z) or this long ago (42m)"),
    ("tail", "n", "string", "Only so many lines from the end", '"all"'),
    ("timestamps", "t", "bool", "Show when each line was written"),
    ("until", "", "string", "Up to this time (2013-01-02T13:23:37Z) or this long ago (42m)"),
)
ARGUMENTS = (1, 1)


def _moment(name: str, text: str) -> str:
    from barque.cli.times import timestamp

    try:
        return timestamp(text)
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f'invalid value for "{name}": {error}') from None


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    described = containers.inspect(arguments[0])
    query = [("stdout", "1"), ("stderr", "1"), ("tail", options.text("tail", "all"))]
    query += [(name, "1") for name in ("follow", "timestamps", "details") if options.flag(name)]
    for name in ("since", "until"):
        if name in options:
            query.append((name, _moment(name, options.text(name))))
    reply = containers.logs(described["Id"], query)
    if described["Config"]["Tty"]:
        for piece in reply.pieces():
            terminal.write(terminal.STDOUT, piece)
        return 0
    frames = FrameReader()
    for piece in reply.pieces():
        for stream, payload in frames.runs(piece):
            terminal.write(terminal.STDERR if stream == STDERR else terminal.STDOUT, payload)
    return 0
