from __future__ import annotations

from typing import Any

from barque.daemon.containers.documents import Config, HostConfig, parse
from barque.daemon.containers.ports import published


def found(exposed: list[str], **host: Any) -> dict[str, Any]:
    return published(Config(exposed_ports={port: {} for port in exposed}), parse(HostConfig, host))


def test_bindings_ranges_and_exposed_ones() -> None:
    bindings = {"80": [{"HostPort": "8080"}, {"HostIp": "::1"}], "90-91/udp": None}
    assert found(["80/tcp", "443/tcp"], PortBindings=bindings) == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": ""}],
        "90/udp": [{"HostIp": "", "HostPort": ""}],
        "91/udp": [{"HostIp": "", "HostPort": ""}],
        "443/tcp": None,
    }


def test_publish_all() -> None:
    assert found(["80/tcp"], PublishAllPorts=True) == {"80/tcp": [{"HostIp": "", "HostPort": ""}]}
