"""Published ports as callers on the host see them: IPv6's loopback too, on dockerd and on ours."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.netns_host import attempt
from tests.support.runtimes import wait_for, wait_gone

pytestmark = [pytest.mark.root, pytest.mark.peer]
PAGE = "root:x:0:0:root:/root:/bin/sh"


@dataclass(frozen=True)
class Engine:
    """`netns` is the host's network namespace, as this engine has it."""

    made: Peer | Stack
    netns: str

    def run(self, *arguments: str) -> str:
        return self.made.docker(*arguments).stdout.decode().strip()

    def fetch(self, address: str, port: str) -> str:
        url = f"http://{address}:{port}/passwd"
        return attempt("curl", "-gsS", "--max-time", "20", url, netns=self.netns).stdout


@contextmanager
def our_engine() -> Iterator[Engine]:
    with stack() as made:
        yield Engine(made, "/proc/self/ns/net")


@contextmanager
def docker_engine() -> Iterator[Engine]:
    with docker_peer() as made:
        yield Engine(made, f"/proc/{made.pid}/ns/net")


@pytest.fixture(params=[our_engine, docker_engine], ids=["barqued", "dockerd"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as made:
        yield made


def test_both_loopbacks_and_the_bridge_lead_to_a_published_port(engine: Engine) -> None:
    served = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    engine.run("run", "-d", "--name", "web", "-p", "80", *served)
    try:
        ports = '{{range (index .NetworkSettings.Ports "80/tcp")}}{{.HostIp}} {{.HostPort}},{{end}}'
        fourth, sixth, _ = engine.run("inspect", "-f", ports, "web").split(",")
        number = fourth.partition(" ")[2]
        assert (fourth, sixth) == (f"0.0.0.0 {number}", f":: {number}")
        shown = engine.run("ps", "--format", "{{.Ports}}")
        assert shown == f"0.0.0.0:{number}->80/tcp, [::]:{number}->80/tcp"
        wait_for(lambda: PAGE in engine.fetch("127.0.0.1", number))
        assert PAGE in engine.fetch("[::1]", number)
        gateway = engine.run("inspect", "-f", "{{.NetworkSettings.Gateway}}", "web")
        assert PAGE in engine.fetch(gateway, number)
        url = f"http://{gateway}:{number}/passwd"
        assert PAGE in engine.run("exec", "web", "wget", "-qO-", url)
    finally:
        engine.run("rm", "-f", "web")
    assert engine.fetch("[::1]", number) == ""


def test_a_port_of_ipv6_alone_leads_to_a_container_of_ipv4(engine: Engine) -> None:
    served = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    engine.run("run", "-d", "--name", "six", "-p", "[::1]::80", *served)
    try:
        number = engine.run("port", "six", "80").rpartition(":")[2]
        wait_for(lambda: PAGE in engine.fetch("[::1]", number))
        assert engine.fetch("127.0.0.1", number) == ""
    finally:
        engine.run("rm", "-f", "six")


def test_a_port_is_served_while_no_daemon_is_there_and_goes_with_its_container() -> None:
    with our_engine() as engine, contextlib.ExitStack() as left:
        made = engine.made
        assert isinstance(made, Stack)
        served = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
        numbers = []
        for name in ("kept", "killed"):
            engine.run("run", "-d", "--name", name, "-p", "[::1]::80", *served)
            left.callback(made.docker, "rm", "-f", name)
            numbers.append(engine.run("port", name, "80").rpartition(":")[2])
            wait_for(lambda: PAGE in engine.fetch("[::1]", numbers[-1]))
        pid = int(engine.run("inspect", "-f", "{{.State.Pid}}", "killed"))
        made.kill("barqued")
        assert PAGE in engine.fetch("[::1]", numbers[0])
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        made.start()
        wait_for(lambda: engine.run("inspect", "-f", "{{.State.Running}}", "killed") == "false")
        assert PAGE in engine.fetch("[::1]", numbers[0])
        with socket.create_server(("::1", int(numbers[1])), family=socket.AF_INET6):
            pass
        engine.run("start", "killed")
        number = engine.run("port", "killed", "80").rpartition(":")[2]
        wait_for(lambda: PAGE in engine.fetch("[::1]", number))
