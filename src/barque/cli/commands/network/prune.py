"""`barque network prune`: remove all networks that nobody is in."""

from __future__ import annotations

from barque.cli import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove all networks that no container is in"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = pruning.OPTIONS
ARGUMENTS = (0, 0)

WARNING = " all custom networks not used by at least one container."


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell

        tell("Networks", Dry(session, pruning.filters(session, options)).networks())
        return 0
    if not pruning.confirmed(options, WARNING):
        return 0
    done = session.client.networks.prune(pruning.filters(session, options))
    pruning.tell_removed("Networks", done.get("NetworksDeleted") or ())
    return 0
