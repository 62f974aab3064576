"""`barque wait`: until containers have ended, then their exit codes."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER [CONTAINER...]"
SUMMARY = "Wait until containers end, then print their exit codes"
ALIASES = ("container wait", "wait")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    failures = []
    for name in arguments:
        try:
            answer = session.client.containers.wait(name)
        except errors.BarqueError as error:
            failures.append(str(error))
            continue
        terminal.out(f"{answer['StatusCode']}\n")
    if failures:
        terminal.err("\n".join(failures) + "\n")
    return 1 if failures else 0
