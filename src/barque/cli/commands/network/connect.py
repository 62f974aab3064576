"""`barque network connect`."""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NETWORK CONTAINER"
SUMMARY = "Put a container on a network"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("alias", "", "stringSlice", "Alias of the container in the network"),
    ("driver-opt", "", "stringSlice", "Option of the driver"),
    ("gw-priority", "", "int", "Who has the highest is the default gateway"),
    ("ip", "", "string", "IPv4 address"),
    ("ip6", "", "string", "IPv6 address"),
    ("link", "", "list", "Link to another container"),
    ("link-local-ip", "", "stringSlice", "Link-local address"),
)
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    endpoint: dict[str, Any] = {}
    addresses = {
        "IPv4Address": options.text("ip"),
        "IPv6Address": options.text("ip6"),
        "LinkLocalIPs": options.all("link-local-ip"),
    }
    if given := {key: value for key, value in addresses.items() if value}:
        endpoint["IPAMConfig"] = given
    if "alias" in options:
        endpoint["Aliases"] = options.all("alias")
    if "link" in options:
        endpoint["Links"] = options.all("link")
    if "driver-opt" in options:
        pairs = [text.partition("=") for text in options.all("driver-opt")]
        if not all(equals for _, equals, _ in pairs):
            raise errors.InvalidArgument("invalid key/value pair format in driver options")
        endpoint["DriverOpts"] = {key: value for key, _, value in pairs}
    if "gw-priority" in options:
        endpoint["GwPriority"] = options.number("gw-priority")
    session.client.networks.connect(arguments[0], arguments[1], endpoint)
    return 0
