"""What `stop` and `restart` have alike: the signal, and how long to wait for the end."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row

OPTIONS: tuple[Row, ...] = (
    ("signal", "s", "string", "Signal to send"),
    ("time", "", "int", ""),
    ("timeout", "t", "int", "Seconds to wait before the kill"),
)


def timeout_s(options: Options) -> int | None:
    """None where neither name of the option was given: the container's own is waited for."""
    name = "timeout" if "timeout" in options else "time"
    return options.number(name) if name in options else None
