"""macvlan and overlay networks by the real docker CLI and docker-compose; Debian's dockerd too."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out
from tests.support.netns_host import Neighbour, run
from tests.support.subnets import Subnet

pytestmark = [pytest.mark.root, pytest.mark.peer]
SERVE = "echo hello > /index.html; exec httpd -f -p 80 -h /"


class Wire:
    """Another machine on a wire of ours, of which macvlan networks may take the near end."""

    def __init__(self, netns: str = "") -> None:
        """`netns`: the name of the namespace that the daemon is in, "" for the machine's own."""
        self._subnet = Subnet()
        self.net = f"10.214.{self._subnet.number}"
        self.near = f"bw{secrets.token_hex(4)}"
        self.far = Neighbour(self.near, self.net)
        self._netns = netns
        if netns:
            run("ip", "link", "set", self.near, "netns", netns)
            self._ip("addr", "add", f"{self.far.ours}/24", "dev", self.near)
            self._ip("link", "set", self.near, "up")

    def _ip(self, *arguments: str) -> str:
        return run("ip", *(("-n", self._netns) if self._netns else ()), *arguments)

    def is_there(self) -> bool:
        return self.near in self._ip("link")

    def create(self, *more: str) -> list[str]:
        """The arguments that make a network on it; its addresses are the upper half."""
        pool = ["--subnet", f"{self.net}.0/24", "--ip-range", f"{self.net}.128/25"]
        pool += ["--gateway", self.far.ours]
        return ["network", "create", "-d", "macvlan", *pool, "-o", f"parent={self.near}", *more]

    def get(self, address: str) -> str:
        return self.far.run("curl", "-sf", "-m", "20", f"http://{address}/").strip()

    def close(self) -> None:
        self.far.close()
        self._subnet.release()


@contextmanager
def wired(netns: str = "") -> Iterator[Wire]:
    made = Wire(netns)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def wire(engine: Any) -> Iterator[Wire]:
    with wired("" if isinstance(engine, Stack) else engine.netns) as made:
        yield made


@pytest.fixture
def our_wire() -> Iterator[Wire]:
    with wired() as made:
        yield made


def inspected(engine: Any, *arguments: str) -> Any:
    return json.loads(out(engine, *arguments))[0]


def address(engine: Any, container: str, network: str) -> str:
    networks = inspected(engine, "inspect", container)["NetworkSettings"]["Networks"]
    return str(networks[network]["IPAddress"])


def test_containers_on_a_wire(engine: Any, wire: Wire) -> None:
    word = secrets.token_hex(4)
    network, one, two = f"n{word}", f"one{word}", f"two{word}"
    out(engine, *wire.create(network))
    try:
        found = inspected(engine, "network", "inspect", network)
        assert found["Driver"] == "macvlan"
        assert found["Options"] == {"parent": wire.near}
        config = {"Subnet": f"{wire.net}.0/24", "IPRange": f"{wire.net}.128/25"}
        assert found["IPAM"]["Config"] == [{**config, "Gateway": wire.far.ours}]
        run = ("run", "-d", "--network", network, "--name")
        out(engine, *run, one, "--network-alias", "web", "busybox", "sh", "-c", SERVE)
        out(engine, *run, two, "busybox", "sh", "-c", SERVE)
        assert wire.get(address(engine, one, network)) == "hello"
        for host in (one, "web"):  # names, and one container and the other on the same parent
            assert out(engine, "exec", two, "wget", "-qO-", f"http://{host}/") == "hello"
        route = out(engine, "exec", two, "ip", "route")
        assert f"default via {wire.far.ours} dev eth0" in route
        assert len(inspected(engine, "network", "inspect", network)["Containers"]) == 2
        out(engine, "network", "disconnect", network, two)
        out(engine, "network", "connect", "--ip", f"{wire.net}.200", network, two)
        assert address(engine, two, network) == f"{wire.net}.200"
        assert wire.get(f"{wire.net}.200") == "hello"
    finally:
        engine.docker("rm", "-f", one, two, check=False)
        out(engine, "network", "rm", network)
    assert wire.is_there()


def test_networks_that_cannot_be_on_a_wire(engine: Any, wire: Wire) -> None:
    network = f"n{secrets.token_hex(4)}"
    assert "is not valid" in fails(engine, *wire.create("-o", "macvlan_mode=odd", network))
    out(engine, *wire.create(network))
    try:
        again = ("network", "create", "-d", "macvlan", "-o", f"parent={wire.near}", f"{network}2")
        assert "is already using parent interface" in fails(engine, *again)
    finally:
        out(engine, "network", "rm", network)
    lo = ("network", "create", "-d", "macvlan", "-o", "parent=lo", f"{network}3")
    assert "loopback interface is not a valid" in fails(engine, *lo)


COMPOSE = """
version: "2.4"
services:
  web:
    image: busybox
    command: [sh, -c, "SERVE"]
    stop_grace_period: 0s
    volumes: ["fast:/fast", {type: tmpfs, target: /scratch}]
    networks:
      lan: {aliases: [www], ipv4_address: NET.150}
      back:
      over: {aliases: [far]}
  worker:
    image: busybox
    command: [sleep, "600"]
    stop_grace_period: 0s
    depends_on: [web]
    volumes: ["fast:/fast:ro"]
    networks: [lan, over]
networks:
  back:
  lan:
    driver: macvlan
    driver_opts: {parent: NEAR}
    ipam: {config: [{subnet: NET.0/24, ip_range: NET.128/25, gateway: NET.1}]}
  over:
    driver: overlay
    driver_opts:
      barque.overlay.peers: NET.2
      com.docker.network.driver.overlay.vxlanid_list: "VNI"
volumes:
  fast:
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=2m"}
"""


def test_compose_with_networks_and_volumes_of_these_kinds(
    barque: Stack, our_wire: Wire, tmp_path: Path
) -> None:
    wire = our_wire
    text = COMPOSE.replace("NEAR", wire.near).replace("NET", wire.net).replace("SERVE", SERVE)
    text = text.replace("VNI", str(1 + secrets.randbelow((1 << 24) - 1)))
    (tmp_path / "docker-compose.yml").write_text(text)

    def compose(*arguments: str) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", f"p{barque.word}", *arguments],
            cwd=tmp_path,
            env={**os.environ, "DOCKER_HOST": barque.host},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    try:
        compose("up", "-d")
        assert wire.get(f"{wire.net}.150") == "hello"
        compose("exec", "-T", "web", "sh", "-c", "echo shared > /fast/file")
        look = "for h in web www far; do wget -qO- http://$h/; done; cat /fast/file"
        said = compose("exec", "-T", "worker", "sh", "-c", look)
        assert said.split() == ["hello", "hello", "hello", "shared"]
        compose("restart", "-t", "0", "worker")
        assert compose("exec", "-T", "worker", "wget", "-qO-", "http://far/") == "hello\n"
    finally:
        compose("down", "-v", "-t", "0")
    assert wire.is_there()
    names = barque.docker("network", "ls", "-q", "--filter", "type=custom").stdout.split()
    assert not names
