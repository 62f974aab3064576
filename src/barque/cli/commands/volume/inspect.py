"""`barque volume inspect`."""

from __future__ import annotations

from barque.cli.inspection import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME [VOLUME...]"
SUMMARY = "Describe volumes in full"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (("format", "f", "string", "Print with this template, or as 'json'"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    volumes = session.client.volumes
    return show(arguments, volumes.inspect_raw, options.text("format"))
