"""--network and what belongs to it: addresses, aliases, links, names and name servers."""

from __future__ import annotations

from barque import errors
from barque.cli.creating.mounts import fields
from barque.cli.creating.ports import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options

MAX_DOMAIN = 254
NOT_USER_DEFINED = ("default", "bridge", "host", "none")


def apply(
    options: Options, config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any]
) -> None:
    targets = _targets(options)
    names = [name for name, _ in targets]
    first = names[0] if names else "default"
    host["NetworkMode"] = first
    if len(names) > 1 and not all(map(_user_defined, names)):
        raise errors.InvalidArgument(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    endpoint = {**(targets[0][1] if targets else {}), **_first_endpoint(options, first)}
    for name, settings in [(first, endpoint), *targets[1:]]:
        if name in networking:
            raise errors.InvalidArgument(f'network "{name}" is specified multiple times')
        if settings or len(names) > 1 or (_user_defined(name) and names):
            networking[name] = settings
    if links := options.all("link"):
        host["Links"] = links
    _names(options, host)


def _user_defined(name: str) -> bool:
    return name not in NOT_USER_DEFINED and not name.startswith("container:")


def _targets(options: Options) -> list[tuple[str, dict[str, Any]]]:
    """(network, endpoint settings) for each --network, in order."""
    found: list[tuple[str, dict[str, Any]]] = []
    for flag in ("network", "net"):
        for text in options.all(flag):
            if "=" not in text:
                found.append((text, {}))
                continue
            try:
                found.append(_long(text))
            except errors.InvalidArgument as error:
                raise options.invalid(flag, text, error) from None
    return found


def _long(text: str) -> tuple[str, dict[str, Any]]:
    """name=n1,alias=a,ip=1.2.3.4,driver-opt=x=y,gw-priority=3"""
    name = ""
    endpoint: dict[str, Any] = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals:
            raise errors.InvalidArgument(f"invalid field {field}")
        if key == "name":
            name = value
        elif key == "alias":
            endpoint.setdefault("Aliases", []).append(value)
        elif key == "ip":
            endpoint.setdefault("IPAMConfig", {})["IPv4Address"] = value
        elif key == "ip6":
            endpoint.setdefault("IPAMConfig", {})["IPv6Address"] = value
        elif key == "link-local-ip":
            endpoint.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
        elif key == "mac-address":
            endpoint["MacAddress"] = value
        elif key == "driver-opt":
            option, _, setting = value.partition("=")
            endpoint.setdefault("DriverOpts", {})[option] = setting
        elif key == "gw-priority":
            endpoint["GwPriority"] = _integer(value)
        else:
            raise errors.InvalidArgument(f"invalid field key {key}")
    if not name:
        raise errors.InvalidArgument("network name/id is not specified")
    return name, endpoint


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise errors.InvalidArgument(f"invalid gw-priority: {text}") from None


def _first_endpoint(options: Options, network: str) -> dict[str, Any]:
    """What the flags beside --network say of the first one."""
    endpoint: dict[str, Any] = {}
    aliases = options.all("network-alias") + options.all("net-alias")
    if aliases:
        if not _user_defined(network):
            raise errors.InvalidArgument(
                "network-scoped aliases are only supported for user-defined networks"
            )
        endpoint["Aliases"] = aliases
    addresses = {
        "IPv4Address": options.text("ip"),
        "IPv6Address": options.text("ip6"),
        "LinkLocalIPs": options.all("link-local-ip"),
    }
    if given := {key: value for key, value in addresses.items() if value}:
        endpoint["IPAMConfig"] = given
    if mac := options.text("mac-address"):
        if not _is_mac(mac):
            raise errors.InvalidArgument(f"{mac} is not a valid mac address")
        endpoint["MacAddress"] = mac
    if _user_defined(network) and (links := options.all("link")):
        endpoint["Links"] = links
    return endpoint


def _is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    digits = "0123456789abcdefABCDEF"
    return len(parts) in (6, 8, 20) and all(
        len(part) == 2 and not part.strip(digits) for part in parts
    )


def _names(options: Options, host: dict[str, Any]) -> None:
    if "add-host" in options:
        host["ExtraHosts"] = [_host(options, text) for text in options.all("add-host")]
    if "dns" in options:
        for text in options.all("dns"):
            if not is_address(text.strip()):
                raise options.invalid("dns", text, f"IP address is not correctly formatted: {text}")
        host["Dns"] = [text.strip() for text in options.all("dns")]
    if "dns-search" in options:
        host["DnsSearch"] = [_domain(options, text) for text in options.all("dns-search")]


def _domain(options: Options, text: str) -> str:
    """A domain without its last dot; "." alone for no search at all."""
    domain = text.strip()
    if domain == ".":
        return domain
    domain = domain.removesuffix(".")
    labels = domain.split(".")
    letters = any(c.isascii() and c.isalpha() for c in domain)
    if not letters or len(domain) > MAX_DOMAIN or not all(map(_is_label, labels)):
        raise options.invalid("dns-search", text, f"{text.strip()} is not a valid domain")
    return domain


def _is_label(text: str) -> bool:
    return text.replace("-", "a").isalnum() and text.isascii() and text.strip("-") == text


def _host(options: Options, text: str) -> str:
    """name:address, however it was written."""
    separator = "=" if "=" in text.split(":", 1)[0] else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise options.invalid("add-host", text, f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_address(address):
        raise options.invalid("add-host", text, f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"
