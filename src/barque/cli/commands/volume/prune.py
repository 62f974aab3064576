"""`barque volume prune`: remove volumes that no container uses."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove anonymous volumes that no container uses"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Those with names too"),
    ("dry-run", "", "bool", "Show what would be removed, and remove nothing"),
    ("filter", "", "filter", "Only those that this applies to"),
    ("force", "f", "bool", "Do not ask"),
)
ARGUMENTS = (0, 0)

WARNING = (
    "WARNING! This will remove {} not used by at least one container.\n"
    "Are you sure you want to continue? [y/N] "
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    filters = parse(options)
    if options.flag("all"):
        if "all" in filters:
            raise errors.InvalidArgument("conflicting options: cannot specify both --all and all=")
        filters["all"] = ["true"]
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        named = "true" in filters.get("all", ())
        total(tell("Volumes", Dry(session, filters).volumes(named=named)))
        return 0
    if not options.flag("force"):
        kind = "all volumes" if options.flag("all") else "anonymous local volumes"
        if not terminal.confirmed(WARNING.format(kind)):
            return 0
    done = session.client.volumes.prune(filters)
    if removed := done.get("VolumesDeleted"):
        terminal.out("Deleted Volumes:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    terminal.out(f"Total reclaimed space: {units.size(done['SpaceReclaimed'], 4)}\n")
    return 0
