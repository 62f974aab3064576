"""`barque kill`."""

from __future__ import annotations

from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Send a signal to containers"
ALIASES = ("container kill", "kill")
OPTIONS: tuple[Row, ...] = (("signal", "s", "string", "Signal to send"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    signal = options.text("signal")
    return each(arguments, lambda name: containers.begin_kill(name, signal))
