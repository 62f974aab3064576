"""`barque container kill-exec`: end what was begun with `exec`, or send it a signal."""

from __future__ import annotations

from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] EXEC [EXEC...]"
SUMMARY = "Send a signal to commands that run by exec, and to what they started"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (("signal", "s", "string", "Signal to send"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    execs, signal = session.client.execs, options.text("signal")
    return each(arguments, lambda name: execs.begin_kill(name, signal))
