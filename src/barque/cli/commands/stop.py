"""`barque stop`."""

from __future__ import annotations

from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Stop containers"
ALIASES = ("container stop", "stop")
OPTIONS: tuple[Row, ...] = (
    ("signal", "s", "string", "Signal to send"),
    ("time", "", "int", ""),
    ("timeout", "t", "int", "Seconds to wait before the kill"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    signal = options.text("signal")
    name = "timeout" if "timeout" in options else "time"
    timeout_s = options.number(name) if name in options else None
    return each(
        arguments, lambda name: containers.begin_stop(name, timeout_s=timeout_s, signal=signal)
    )
