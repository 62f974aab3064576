"""`barque network inspect`."""

from __future__ import annotations

from barque.cli.inspection import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NETWORK [NETWORK...]"
SUMMARY = "Describe networks in full"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "f", "string", "Print with this template, or as 'json'"),
    ("verbose", "v", "bool", "More, for diagnosis"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    networks = session.client.networks
    verbose = options.flag("verbose")
    return show(
        arguments, lambda name: networks.inspect_raw(name, verbose=verbose), options.text("format")
    )
