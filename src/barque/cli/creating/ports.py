"""-p and --expose: which ports of the container are reachable, and where on the host.

[address:][host[-host]:]port[-port][/protocol]      or  target=80,published=8080,protocol=tcp
"""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options

    Binding = dict[str, str]

PROTOCOLS = ("tcp", "udp", "sctp")
MAX_PORT = 65535


def apply(
    options: Options, config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any]
) -> None:
    bindings: dict[str, list[Binding]] = {}
    for text in options.all("publish"):
        for port, binding in parse(_short(options, text)):
            bindings.setdefault(port, []).append(binding)
    exposed = dict.fromkeys(bindings)
    for text in options.all("expose"):
        exposed.update(dict.fromkeys(_exposed(text)))
    if bindings:
        host["PortBindings"] = bindings
    if exposed:
        config["ExposedPorts"] = {port: {} for port in exposed}


def _short(options: Options, text: str) -> str:
    """The long form as the short one."""
    if "=" not in text:
        return text
    fields = {"published": "", "target": "", "protocol": "tcp"}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in fields:
            raise errors.InvalidArgument(
                f"invalid publish opts format (should be name=value but got '{part}')"
            )
        fields[key] = value
    published = f"{fields['published']}:" if fields["published"] else ""
    return f"{published}{fields['target']}/{fields['protocol']}"


def parse(text: str) -> list[tuple[str, Binding]]:
    """("80/tcp", {"HostIp", "HostPort"}) for each port of one -p. Raises InvalidArgument."""
    address, published, rest = _split(text)
    target, slash, protocol = rest.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if not target:
        raise errors.InvalidArgument(f"no port specified: {text}<empty>")
    first, last = _range(target, f"invalid containerPort: {target}")
    low, high = _range(published, f"invalid hostPort: {published}") if published else (0, 0)
    if protocol not in PROTOCOLS:
        raise errors.InvalidArgument(f"invalid proto: {protocol}")
    if published and high - low != last - first and first != last:
        raise errors.InvalidArgument(
            f"invalid ranges specified for container and host Ports: {target} and {published}"
        )
    found = []
    for offset in range(last - first + 1):
        shown = str(low + offset) if published else ""
        if published and first == last and low != high:
            shown = f"{low}-{high}"  # any free one of them
        found.append((f"{first + offset}/{protocol}", {"HostIp": address, "HostPort": shown}))
    return found


def _split(text: str) -> tuple[str, str, str]:
    """Address, host ports, container ports."""
    head, _, target = text.rpartition(":")
    address, _, published = head.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise errors.InvalidArgument(f"invalid IP address: {address}")
    if address and not is_address(address):
        raise errors.InvalidArgument(f"invalid IP address: {address}")
    return address, published, target


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _range(text: str, refusal: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(end.isascii() and end.isdigit() and int(end) <= MAX_PORT for end in ends):
        raise errors.InvalidArgument(refusal)
    if int(ends[1]) < int(ends[0]):
        raise errors.InvalidArgument(refusal)
    return int(ends[0]), int(ends[1])


def _exposed(text: str) -> list[str]:
    if ":" in text:
        raise errors.InvalidArgument(f"invalid port format for --expose: {text}")
    ports, slash, protocol = text.partition("/")
    first, last = _range(ports, f"invalid range format for --expose: {text}")
    return [f"{port}/{protocol.lower() if slash else 'tcp'}" for port in range(first, last + 1)]
