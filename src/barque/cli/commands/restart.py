"""`barque restart`."""

from __future__ import annotations

from barque.cli import stopping
from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Stop containers and start them again"
ALIASES = ("container restart", "restart")
OPTIONS: tuple[Row, ...] = stopping.OPTIONS
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    timeout_s, signal = stopping.timeout_s(options), options.text("signal")
    return each(
        arguments, lambda name: containers.begin_restart(name, timeout_s=timeout_s, signal=signal)
    )
