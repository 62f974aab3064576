"""`barque network prune`: remove all networks that nobody is in."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove all networks that no container is in"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("dry-run", "", "bool", "Show what would be removed, and remove nothing"),
    ("filter", "", "filter", "Only those that this applies to"),
    ("force", "f", "bool", "Do not ask"),
)
ARGUMENTS = (0, 0)

WARNING = (
    "WARNING! This will remove all custom networks not used by at least one container.\n"
    "Are you sure you want to continue? [y/N] "
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell

        tell("Networks", Dry(session, parse(options)).networks())
        return 0
    if not options.flag("force") and not terminal.confirmed(WARNING):
        return 0
    done = session.client.networks.prune(parse(options))
    if removed := done.get("NetworksDeleted"):
        terminal.out("Deleted Networks:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    return 0
