"""`barque image prune`: remove images that are not used."""

from __future__ import annotations

from barque.cli import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove images that are not used"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "All that no container uses, not only those without a name"),
    *pruning.OPTIONS,
)
ARGUMENTS = (0, 0)

DANGLING = " all dangling images."
UNUSED = " all images without at least one container associated to them."


def run(session: Session, options: Options, arguments: list[str]) -> int:
    everything = options.flag("all")
    if options.flag("dry-run"):
        from barque.cli.prunable import Dry, tell, total

        total(
            tell("Images", Dry(session, pruning.filters(session, options)).images(named=everything))
        )
        return 0
    if not pruning.confirmed(options, UNUSED if everything else DANGLING):
        return 0
    filters = {**pruning.filters(session, options), "dangling": ["false" if everything else "true"]}
    done = session.client.images.prune(filters)
    pruning.tell_removed("Images", done.get("ImagesDeleted") or ())
    pruning.tell_freed(done.get("SpaceReclaimed") or 0)
    return 0
