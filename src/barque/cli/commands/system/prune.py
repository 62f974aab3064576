"""`barque system prune`: remove what nothing uses, of every kind."""

from __future__ import annotations

from barque.cli import terminal, units

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
    ("dry-run", "", "bool", "Show what would be removed, and remove nothing"),
    ("filter", "", "filter", "Only those that this applies to (as label=key=value)"),
    ("force", "f", "bool", "Do not ask"),
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
    from barque.cli.filters import parse

    filters = parse(options)
    volumes = options.flag("volumes")
    if volumes and "until" in filters:
        raise errors.InvalidArgument('ERROR: The "until" filter is not supported with "--volumes"')
    if options.flag("dry-run"):
        return _dry(session, filters, everything=options.flag("all"), volumes=volumes)
    if not options.flag("force") and not terminal.confirmed(_warning(options, filters)):
        return 0
    freed = 0
    for path, title, key in PRUNABLE:
        if title == "Volumes" and not volumes:
            continue
        freed += _prune(session, path, title, key, _filters(title, filters, options.flag("all")))
    terminal.out(f"Total reclaimed space: {units.size(freed, 4)}\n")
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
    lines = []
    for item in done.get(key) or ():
        if isinstance(item, str):
            lines.append(item)
        else:
            lines += [
                f"{word}: {item[name]}"
                for name, word in (("Untagged", "untagged"), ("Deleted", "deleted"))
                if item.get(name)
            ]
    if lines:
        terminal.out(f"Deleted {title}:\n" + "".join(f"{line}\n" for line in lines) + "\n")
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
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines) + "\n"
    if filters:
        pairs = sorted(f"{key}={value}" for key, values in filters.items() for value in values)
        text += "  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {pair}\n" for pair in pairs) + "\n"
    return text + "Are you sure you want to continue? [y/N] "
