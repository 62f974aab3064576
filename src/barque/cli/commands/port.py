"""`barque port`: where the ports of a container are published."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.order import natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER [PRIVATE_PORT[/PROTO]]"
SUMMARY = "Show where the ports of a container are published"
ALIASES = ("container port", "port")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    described = session.client.containers.inspect(arguments[0])
    ports: dict[str, list[dict[str, Any]] | None] = described["NetworkSettings"]["Ports"] or {}
    if len(arguments) == 1:
        lines = [
            f"{port} -> {_address(binding)}"
            for port, bindings in ports.items()
            for binding in bindings or ()
        ]
    else:
        wanted = arguments[1] if "/" in arguments[1] else f"{arguments[1]}/tcp"
        bindings = ports.get(wanted)
        if not bindings:
            raise errors.NotFound(
                f"Error: No public port '{arguments[1]}' published for {arguments[0]}"
            )
        lines = [_address(binding) for binding in bindings]
    terminal.out("".join(f"{line}\n" for line in sorted(lines, key=natural)))
    return 0


def _address(binding: dict[str, Any]) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"
