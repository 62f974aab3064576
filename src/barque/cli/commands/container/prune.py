"""`barque container prune`: remove all containers that do not run."""

from __future__ import annotations

from barque.cli import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove all containers that do not run"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = pruning.OPTIONS
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        total(tell("Containers", Dry(session, pruning.filters(session, options)).containers()))
        return 0
    if not pruning.confirmed(options, " all stopped containers."):
        return 0
    done = session.client.containers.prune(pruning.filters(session, options))
    pruning.tell_removed("Containers", done.get("ContainersDeleted") or ())
    pruning.tell_freed(done.get("SpaceReclaimed") or 0)
    return 0
