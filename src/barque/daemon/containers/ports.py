"""Which ports a container exposes and publishes, as the networks service takes them."""

from __future__ import annotations

from collections.abc import Iterator

from barque.daemon.containers.documents import Config, HostConfig, PortBinding, document

Published = dict[str, list[dict[str, str]] | None]


def published(config: Config, host: HostConfig) -> Published:
    """`80/tcp` -> bindings; None for a port that is exposed only."""
    result: Published = {}
    exposed = [port for text in config.exposed_ports or {} for port in expand(text)]
    for text, bindings in host.port_bindings.items():
        for port in expand(text):
            asked = bindings or [PortBinding()]
            result[port] = [*(result.get(port) or ()), *map(document, asked)]
    for port in exposed:
        if port not in result:
            publish_all = host.publish_all_ports
            result[port] = [{"HostIp": "", "HostPort": ""}] if publish_all else None
    return result


def expand(text: str) -> Iterator[str]:
    """`80` and `80-82/udp` one by one, with the protocol."""
    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    for number in range(int(first), int(last or first) + 1):
        yield f"{number}/{protocol or 'tcp'}"
