"""`barque __complete -- WORD...`: what a shell asks at the TAB key.

A line a candidate, its description behind a tab; the last line is `:files` or `:nothing`.
"""

from __future__ import annotations

from barque.cli import completion, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "-- WORD..."
SUMMARY = "What may stand in the last word's place"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (0, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    candidates, more = completion.complete(session, arguments)
    lines = (f"{word}\t{text}" if text else word for word, text in candidates)
    terminal.out("".join(f"{line}\n" for line in (*lines, f":{more}")))
    return 0
