"""`barque attach`: be the terminal of a running container."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER"
SUMMARY = "Be the terminal of a running container"
ALIASES = ("container attach", "attach")
OPTIONS: tuple[Row, ...] = (
    ("detach-keys", "", "string", "Keys that detach from the container"),
    ("no-stdin", "", "bool", "Do not attach STDIN"),
    ("sig-proxy", "", "bool", "Send signals on to the process", "true"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli import attachment

    described = session.client.containers.inspect(arguments[0])
    _check_state(described["State"])
    config = described["Config"]
    stdin = not options.flag("no-stdin") and bool(config["OpenStdin"])
    if stdin and config["Tty"] and not terminal.is_terminal(terminal.STDIN):
        raise Failure(1, "the input device is not a TTY")
    wanted = attachment.Wanted(
        tty=bool(config["Tty"]),
        stdin=stdin,
        detach_keys=options.text("detach-keys") or session.detach_keys,
        forward_signals=options.flag("sig-proxy", True) and not config["Tty"],
    )
    return attachment.attach(session.client, str(described["Id"]), wanted)


def _check_state(state: dict[str, Any]) -> None:
    if not state["Running"]:
        raise errors.Conflict("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise errors.Conflict("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise errors.Conflict(
            "You cannot attach to a restarting container, wait until it is running"
        )
