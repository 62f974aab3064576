"""`barque container inspect`."""

from __future__ import annotations

from barque.cli.inspection import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Describe containers in full"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "f", "string", "Print with this template, or as 'json'"),
    ("size", "s", "bool", "Show the sizes"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    size = options.flag("size")
    return show(
        arguments, lambda name: containers.inspect_raw(name, size=size), options.text("format")
    )
