"""What every `prune` has: its options, the question before it, what it tells of what is gone."""

from __future__ import annotations

from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

DRY_RUN: Row = ("dry-run", "", "bool", "Show what would be removed, and remove nothing")
FORCE: Row = ("force", "f", "bool", "Do not ask")
OPTIONS: tuple[Row, ...] = (
    DRY_RUN,
    ("filter", "", "filter", "Only those that this applies to"),
    FORCE,
)
QUESTION = "Are you sure you want to continue? [y/N] "


def filters(session: Session, options: Options) -> dict[str, list[str]]:
    """Those of the command line, and of `pruneFilters` in config.json what does not contradict."""
    from barque.cli.filters import parse

    found = parse(options)
    given = {name: list(values) for name, values in found.items()}
    opposite = {"label": "label!", "label!": "label"}
    for text in session.settings.get("pruneFilters") or ():
        name, equals, value = text.partition("=")
        if equals and value not in given.get(opposite.get(name, ""), ()):
            found.setdefault(name, []).append(value)
    return found


def confirmed(options: Options, warning: str) -> bool:
    """Whether to go on: by --force, or because the user says so; `warning` says what goes."""
    return options.flag("force") or terminal.confirmed(
        f"WARNING! This will remove{warning}\n{QUESTION}"
    )


def tell_removed(kind: str, items: Iterable[str | dict[str, str]]) -> None:
    """The names that the daemon gave back; of an image each name that went, and its layers."""
    lines: list[str] = []
    for item in items:
        if isinstance(item, str):
            lines.append(item)
        else:
            lines += [f"{word.lower()}: {name}" for word, name in item.items() if name]
    if lines:
        terminal.out(f"Deleted {kind}:\n" + "".join(f"{line}\n" for line in lines) + "\n")


def tell_freed(count: int) -> None:
    """`count` in bytes."""
    terminal.out(f"Total reclaimed space: {units.size(count, 4)}\n")
