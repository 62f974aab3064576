"""`barque network disconnect`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NETWORK CONTAINER"
SUMMARY = "Take a container off a network"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (("force", "f", "bool", "Even when the container does not answer"),)
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    network, container = arguments
    session.client.networks.disconnect(network, container, force=options.flag("force"))
    return 0
