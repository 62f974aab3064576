"""`barque image diff`: the files in which two images differ. Docker has none."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE IMAGE"
SUMMARY = "Show the files in which two images differ"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "", "string", "'json' for one document"),
    ("quiet", "q", "bool", "Print nothing: the exit code is 1 when they differ"),
)
ARGUMENTS = (2, 2)
SIGNS = {"added": "A", "changed": "C", "removed": "D"}  # as `barque diff`


def run(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.images.diff(*arguments)
    if options.flag("quiet"):
        return 1 if found["Total"] else 0
    if options.text("format") == "json":
        from barque.client import json

        terminal.out(json.dumps(found) + "\n")
        return 0
    terminal.out("".join(f"{SIGNS[one['Change']]} {one['Path']}\n" for one in found["Entries"]))
    if (left := found["Total"] - len(found["Entries"])) > 0:
        terminal.err(f"and {left} more\n")
    return 0
