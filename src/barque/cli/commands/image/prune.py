"""`barque image prune`: remove images that are not used."""

from __future__ import annotations

from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove images that are not used"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "All that no container uses, not only those without a name"),
    ("dry-run", "", "bool", "Show what would be removed, and remove nothing"),
    ("filter", "", "filter", "Only those that this applies to"),
    ("force", "f", "bool", "Do not ask"),
)
ARGUMENTS = (0, 0)

DANGLING = (
    "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
)
UNUSED = (
    "WARNING! This will remove all images without at least one container associated to them.\n"
    "Are you sure you want to continue? [y/N] "
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    everything = options.flag("all")
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        total(tell("Images", Dry(session, parse(options)).images(named=everything)))
        return 0
    warning = UNUSED if everything else DANGLING
    if not options.flag("force") and not terminal.confirmed(warning):
        return 0
    filters = {**parse(options), "dangling": ["false" if everything else "true"]}
    done = session.client.images.prune(filters)
    if removed := done.get("ImagesDeleted"):
        lines = [
            f"untagged: {item['Untagged']}" if "Untagged" in item else f"deleted: {item['Deleted']}"
            for item in removed
        ]
        terminal.out("Deleted Images:\n" + "".join(f"{line}\n" for line in lines) + "\n")
    terminal.out(f"Total reclaimed space: {units.size(done['SpaceReclaimed'], 4)}\n")
    return 0
