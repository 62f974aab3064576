"""`barque container prune`: remove all containers that do not run."""

from __future__ import annotations

from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove all containers that do not run"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("dry-run", "", "bool", "Show what would be removed, and remove nothing"),
    ("filter", "", "filter", "Only those that this applies to"),
    ("force", "f", "bool", "Do not ask"),
)
ARGUMENTS = (0, 0)

WARNING = (
    "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        total(tell("Containers", Dry(session, parse(options)).containers()))
        return 0
    if not options.flag("force") and not terminal.confirmed(WARNING):
        return 0
    done = session.client.containers.prune(parse(options))
    if removed := done.get("ContainersDeleted"):
        terminal.out("Deleted Containers:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    terminal.out(f"Total reclaimed space: {units.size(done['SpaceReclaimed'], 4)}\n")
    return 0
