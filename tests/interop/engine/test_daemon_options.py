"""Options of the daemon that say what containers and networks get which say nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.linux import cpu_realtime
from tests.support.barque import NO_BRIDGE, Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]

GATEWAYS = ("10.9.8.7", "fd00::9")
MTU = "com.docker.network.driver.mtu"


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    flags = [*("--host-gateway-ip", GATEWAYS[0]), *("--host-gateway-ip", GATEWAYS[1])]
    flags += ["--default-network-opt", f"bridge={MTU}=1234"]
    flags += ["--default-network-opt", "bridge=com.docker.network.bridge.enable_icc=false"]
    with stack(*flags) as made:
        yield made


def test_host_gateway_has_an_address_of_each_version(engine: Stack) -> None:
    flags = ("--add-host", "up:host-gateway", "--add-host", "other:10.1.1.1")
    lines = engine.docker("run", "--rm", *flags, "busybox", "cat", "/etc/hosts").stdout.decode()
    found = [line.split() for line in lines.splitlines()]
    assert [line[0] for line in found if line[1:] == ["up"]] == list(GATEWAYS)
    assert ["10.1.1.1", "other"] in found


def test_new_networks_get_the_options_of_their_driver(engine: Stack) -> None:
    name = f"n{secrets.token_hex(4)}"
    subnet = ("--subnet", f"10.214.{engine.subnet}.0/24")
    engine.docker("network", "create", *subnet, "-o", f"{MTU}=1300", name)
    try:
        (found,) = json.loads(engine.docker("network", "inspect", name).stdout)
        assert found["Options"] == {
            MTU: "1300",
            "com.docker.network.bridge.enable_icc": "false",
        }
    finally:
        engine.docker("network", "rm", name)


@pytest.fixture(scope="module")
def unbridged() -> Iterator[Stack]:
    with stack(NO_BRIDGE) as made:
        yield made


@pytest.fixture
def realtime() -> Iterator[Stack]:
    with stack("--cpu-rt-runtime", "20000", "--cpu-rt-period", "1000000") as made:
        yield made


@pytest.mark.skipif(not cpu_realtime.available(), reason="the kernel has no such groups")
def test_containers_get_real_time_of_their_group(realtime: Stack) -> None:
    name = f"c{secrets.token_hex(4)}"
    realtime.docker(
        "run", "-d", "--name", name, "--cpu-rt-runtime", "5000", "busybox", "sleep", "9"
    )
    try:
        group = Path(cpu_realtime.HIERARCHY) / realtime.cgroup
        assert (group / cpu_realtime.RUNTIME).read_text().strip() == "20000"
        (own,) = (path for path in group.iterdir() if path.is_dir())
        assert (own / cpu_realtime.RUNTIME).read_text().strip() == "5000"
        refused = realtime.docker(
            *("run", "--rm", "--cpu-rt-runtime", "3000", "--cpu-rt-period", "2000", "busybox"),
            check=False,
        )
        assert b"cpu real-time runtime cannot be higher than cpu real-time period" in refused.stderr
    finally:
        realtime.docker("rm", "-f", name)


@pytest.mark.parametrize("network", [(), ("--network", "bridge"), ("--network", "default")])
def test_without_a_default_network_containers_have_none(
    unbridged: Stack, network: tuple[str, ...]
) -> None:
    """As dockerd: they run, and see themselves alone; a port of theirs leads nowhere."""
    run = ("run", "--rm", *network, "-p", "80", "busybox", "ip", "-o", "link")
    for command in (unbridged.docker, unbridged.cli):
        links = command(*run).stdout.decode().splitlines()
        assert [line.split()[1] for line in links] == ["lo:"]


def test_without_a_default_network_others_serve(unbridged: Stack) -> None:
    name = f"n{secrets.token_hex(4)}"
    unbridged.docker("network", "create", name)
    try:
        run = ("run", "--rm", "--network", name, "busybox", "ip", "-o", "-4", "address")
        assert b"eth0" in unbridged.docker(*run).stdout
    finally:
        unbridged.docker("network", "rm", name)
