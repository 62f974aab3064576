"""`barque volume prune`: remove volumes that no container uses."""

from __future__ import annotations

from barque import errors
from barque.api.versions import PRUNE_ANONYMOUS
from barque.cli import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove anonymous volumes that no container uses"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Those with names too"),
    *pruning.OPTIONS,
)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    filters = pruning.filters(session, options)
    if options.flag("all"):
        session.require("all", PRUNE_ANONYMOUS)
        if "all" in filters:
            raise errors.InvalidArgument("conflicting options: cannot specify both --all and all=")
        filters["all"] = ["true"]
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        dry = Dry(session, filters)
        total(tell("Volumes", dry.volumes(named="true" in filters.get("all", ()))))
        return 0
    named = options.flag("all") or not session.client.at_least(PRUNE_ANONYMOUS)
    kind = "all" if named else "anonymous"
    if not pruning.confirmed(options, f" {kind} local volumes not used by at least one container."):
        return 0
    done = session.client.volumes.prune(filters)
    pruning.tell_removed("Volumes", done.get("VolumesDeleted") or ())
    pruning.tell_freed(done.get("SpaceReclaimed") or 0)
    return 0
