"""`barque doctor`: what is in disorder on the machine, and putting it right. Docker has none."""

from __future__ import annotations

from barque import errors
from barque.cli import progress, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Look for what is in disorder: rules, links, settings, groups, mounts, images"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("images", "", "bool", "Check every byte of all images against its digest too"),
    ("repair", "", "bool", "Put right what can be put right"),
)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    """1 when something stays in disorder. Without a daemon the machine alone is looked at."""
    repair = options.flag("repair")
    try:
        found = session.client.system.doctor(repair=repair)
    except errors.Unavailable as error:
        terminal.err(f"{error}\n")
        from barque.cli import machine

        for line in machine.look():
            terminal.out(f"{line}\n")
        return 1
    for fault in found:
        state = " (repaired)" if fault["Repaired"] else ""
        terminal.out(f"{fault['Check']} {fault['Object']}: {fault['Problem']}{state}\n")
    harmed = any(not fault["Repaired"] for fault in found)
    if options.flag("images"):
        harmed = _images(session, repair) or harmed
    if not harmed:
        terminal.out("all in order\n")
    return 1 if harmed else 0


def _images(session: Session, repair: bool) -> bool:
    """Whether an image stays damaged."""
    harmed = False
    for image in session.client.images.list():
        name = (image.get("RepoTags") or [image["Id"]])[0]
        reports: list[dict[str, Any]] = []
        progress.show(session.client.images.verify(name, repair=repair), -1, reports.append)
        for digest in (d for r in reports for d in (*r["Corrupt"], *r["Missing"])):
            terminal.out(f"image {name}: {digest} is damaged or missing\n")
            harmed = True
    return harmed
