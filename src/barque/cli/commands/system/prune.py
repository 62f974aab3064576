"""`barque system prune`: remove what nothing uses, of every kind."""

from __future__ import annotations

from barque.cli import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Remove what nothing uses"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Images that no container uses too, not only those without a name"),
    pruning.DRY_RUN,
    ("filter", "", "filter", "Only those that this applies to (as label=key=value)"),
    pruning.FORCE,
    ("volumes", "", "bool", "Anonymous volumes too"),
)
ARGUMENTS = (0, 0)

PRUNABLE = (
    ("/containers/prune", "Containers", "ContainersDeleted"),
    ("/networks/prune", "Networks", "NetworksDeleted"),
    ("/volumes/prune", "Volumes", "VolumesDeleted"),
    ("/images/prune", "Images", "ImagesDeleted"),
    ("/build/prune", "build cache objects", "CachesDeleted"),
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque import errors

    filters = pruning.filters(session, options)
    volumes = options.flag("volumes")
    if volumes and "until" in filters:
        raise errors.InvalidArgument('ERROR: The "until" filter is not supported with "--volumes"')
    if options.flag("dry-run"):
        return _dry(session, filters, everything=options.flag("all"), volumes=volumes)
    if not pruning.confirmed(options, _warning(options, filters)):
        return 0
    freed = 0
    for path, title, key in PRUNABLE:
        if title == "Volumes" and not volumes:
            continue
        freed += _prune(session, path, title, key, _filters(title, filters, options.flag("all")))
    pruning.tell_freed(freed)
    return 0


def _dry(
    session: Session, filters: dict[str, list[str]], *, everything: bool, volumes: bool
) -> int:
    from barque.cli.prunable import Dry, tell, total

    dry = Dry(session, filters)
    freed = tell("Containers", dry.containers()) + tell("Networks", dry.networks())
    if volumes:
        freed += tell("Volumes", dry.volumes(named=False))
    total(freed + tell("Images", dry.images(named=everything)))
    return 0


def _filters(title: str, filters: dict[str, list[str]], everything: bool) -> dict[str, list[str]]:
    chosen = dict(filters)
    if title == "Images":
        chosen["dangling"] = ["false" if everything else "true"]
    return chosen


def _prune(session: Session, path: str, title: str, key: str, filters: dict[str, list[str]]) -> int:
    """Tells what is gone; the bytes freed."""
    from barque.client.containers import filters_query

    query = filters_query(filters)
    if path == "/build/prune" and "dangling" not in filters:
        query = [*query, ("all", "1")] if filters.get("all") else query
    done: Any = session.client.request("POST", path, query).json()
    pruning.tell_removed(title, done.get(key) or ())
    return int(done.get("SpaceReclaimed") or 0)


def _warning(options: Options, filters: dict[str, list[str]]) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if options.flag("volumes"):
        lines.append("all anonymous volumes not used by at least one container")
    if options.flag("all"):
        lines.append("all images without at least one container associated to them")
        lines.append("all build cache")
    else:
        lines += ["all dangling images", "unused build cache"]
    text = ":\n" + "".join(f"  - {line}\n" for line in lines)
    if filters:
        pairs = sorted(f"{key}={value}" for key, values in filters.items() for value in values)
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {pair}\n" for pair in pairs)
    return text
