"""Networks that are only a configuration, and others made of them; dockerd does the same."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docker_cli import fails, out
from tests.support.subnets import Subnet

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def pool() -> Iterator[str]:
    """The first three numbers of a subnet of this test's own."""
    subnet = Subnet()
    yield f"10.214.{subnet.number}"
    subnet.release()


def name() -> str:
    return f"n{secrets.token_hex(4)}"


def inspected(engine: Any, network: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out(engine, "network", "inspect", network))[0]
    return found


def test_a_network_takes_its_configuration_from_another(engine: Any, pool: str) -> None:
    config, network = name(), name()
    bridge = f"bc{secrets.token_hex(4)}"
    flags = ["--subnet", f"{pool}.0/24", "--gateway", f"{pool}.9", "--ip-range", f"{pool}.128/25"]
    flags += ["--label", "a=b", "-o", f"com.docker.network.bridge.name={bridge}"]
    out(engine, "network", "create", "--config-only", *flags, config)
    found = inspected(engine, config)
    shown = {"Subnet": f"{pool}.0/24", "Gateway": f"{pool}.9", "IPRange": f"{pool}.128/25"}
    assert (found["Driver"], found["Scope"], found["ConfigOnly"]) == ("null", "local", True)
    assert found["IPAM"] == {"Driver": "default", "Options": {}, "Config": [shown]}
    out(engine, "network", "create", "--config-from", config, "--internal", network)
    try:
        made = inspected(engine, network)
        assert made["ConfigFrom"] == {"Network": config}
        assert (made["Driver"], made["Internal"], made["ConfigOnly"]) == ("bridge", True, False)
        assert (made["IPAM"]["Config"], made["Labels"]) == ([shown], {"a": "b"})
        assert made["Options"] == found["Options"]
        seen = out(engine, "run", "--rm", "--network", network, "busybox", "ip", "addr")
        assert f"{pool}.128/24" in seen
        said = f'configuration network "{config}" is in use'
        assert said in fails(engine, "network", "rm", config)
    finally:
        out(engine, "network", "rm", network)
    out(engine, "network", "prune", "-f")  # leaves it
    assert config in out(engine, "network", "ls", "--filter", "dangling=true")
    out(engine, "network", "rm", config)


def test_nobody_gets_a_place_in_a_configuration(engine: Any) -> None:
    config, container = name(), name()
    out(engine, "network", "create", "--config-only", config)
    out(engine, "run", "-d", "--name", container, "busybox", "sleep", "600")
    try:
        words = "cannot create endpoint on configuration-only network"
        assert words in fails(engine, "run", "--rm", "--network", config, "busybox", "true")
        assert words in fails(engine, "network", "connect", config, container)
    finally:
        out(engine, "rm", "-f", container)
        out(engine, "network", "rm", config)


def test_no_driver_goes_without_addresses(engine: Any, pool: str) -> None:
    create = ("network", "create", "--ipam-driver", "null")
    assert "ipv4 pool is empty" in fails(engine, *create, name())
    said = fails(engine, *create, "--subnet", f"{pool}.0/24", name())
    assert "null ipam driver does not handle specific address pool requests" in said


def test_what_a_configuration_cannot_have(engine: Any, pool: str) -> None:
    config, network = name(), name()
    create = ("network", "create")
    words = "configuration network can only contain network specific fields"
    for flag in ("--internal", "--attachable"):
        assert words in fails(engine, *create, "--config-only", flag, network)
    out(engine, *create, "--config-only", config)
    try:
        words = "cannot depend on another configuration network"
        assert words in fails(engine, *create, "--config-only", "--config-from", config, network)
        words = "user specified configurations are not supported"
        for flags in (["--subnet", f"{pool}.0/24"], ["--label", "c=d"], ["--ipv6"]):
            assert words in fails(engine, *create, "--config-from", config, *flags, network)
        words = "network driver options are not supported"
        assert words in fails(engine, *create, "--config-from", config, "-o", "a=b", network)
    finally:
        out(engine, "network", "rm", config)
    for missing in (config, "bridge"):
        words = f'configuration network "{missing}" does not exist'
        assert words in fails(engine, *create, "--config-from", missing, network)
