"""`barque inspect`: the description of anything, found by its name or id."""

from __future__ import annotations

from barque import errors
from barque.cli.inspection import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NAME|ID [NAME|ID...]"
SUMMARY = "Describe containers, images, networks and volumes in full"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "f", "string", "Print with this template, or as 'json'"),
    ("size", "s", "bool", "Show the sizes of containers"),
    ("type", "", "string", "Only objects of this type"),
)
ARGUMENTS = (1, -1)

TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task")
ALL_TYPES = (*TYPES, "volume")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    client = session.client
    size = options.flag("size")
    finders: dict[str, Callable[[str], bytes]] = {
        "container": lambda name: client.containers.inspect_raw(name, size=size),
        "image": lambda name: client.images.inspect_raw(name),
        "network": lambda name: client.networks.inspect_raw(name),
        "volume": lambda name: client.volumes.inspect_raw(name),
    }
    kind = options.text("type")
    if "type" in options:
        if kind not in ALL_TYPES:
            names = ", ".join(f'"{name}"' for name in ALL_TYPES)
            raise errors.InvalidArgument(f'unknown type: "{kind}": must be one of {names}')
        if kind not in finders:
            raise errors.Unsupported(f"objects of type {kind} are not there yet")
        return show(arguments, finders[kind], options.text("format"))

    def find(name: str) -> bytes:
        for finder in finders.values():
            try:
                return finder(name)
            except (errors.NotFound, errors.InvalidArgument):
                continue
        raise errors.NotFound(f"Error: No such object: {name}")

    return show(arguments, find, options.text("format"))
