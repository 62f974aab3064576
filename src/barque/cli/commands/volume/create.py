"""`barque volume create`."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [VOLUME]"
SUMMARY = "Create a volume"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("driver", "d", "string", "Driver of the volume", '"local"'),
    ("label", "", "list", "Set a label"),
    ("name", "", "string", ""),
    ("opt", "o", "map", "Option of the driver", "map[]"),
)
ARGUMENTS = (0, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if arguments and "name" in options:
        raise errors.InvalidArgument("conflicting options: cannot specify a volume-name twice")
    body = {
        "Name": arguments[0] if arguments else options.text("name"),
        "Driver": options.text("driver", "local"),
        "DriverOpts": pairs(options.all("opt")),
        "Labels": pairs(options.all("label")),
    }
    terminal.out(f"{session.client.volumes.create(body)['Name']}\n")
    return 0


def pairs(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}
