"""The real docker-compose on our socket: several networks, aliases, volumes, scale."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]

PROJECT = """
version: "2.4"
services:
  web:
    image: busybox
    command: [httpd, -f, -p, "80", -h, /data]
    stop_grace_period: 0s
    networks:
      front: {aliases: [www]}
      back:
    volumes: ["data:/data"]
    ports: ["80"]
  worker:
    image: busybox
    command: [sleep, "600"]
    stop_grace_period: 0s
    depends_on: [web]
    networks:
      back: {ipv4_address: SUBNET.50}
    links: ["web:linked"]
  other:
    image: busybox
    command: [sh, -c, "echo started; exec sleep 600"]
    stop_grace_period: 0s
    networks: [front]
networks:
  front:
  back:
    ipam: {config: [{subnet: SUBNET.0/24}]}
volumes:
  data:
"""


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack() as made:
        yield made


class Compose:
    """docker-compose in one project directory."""

    def __init__(self, barque: Stack, directory: Path) -> None:
        self.barque, self.directory = barque, directory
        self.name = f"p{barque.word}"

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", self.name, *arguments],
            cwd=self.directory,
            env={**os.environ, "DOCKER_HOST": self.barque.host},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def get(self, service: str, host: str) -> str:
        return self("exec", "-T", service, "wget", "-qO-", f"http://{host}/")


@pytest.fixture
def compose(barque: Stack, tmp_path: Path) -> Iterator[Compose]:
    text = PROJECT.replace("SUBNET", f"10.214.{barque.subnet}")
    (tmp_path / "docker-compose.yml").write_text(text)
    made = Compose(barque, tmp_path)
    yield made
    made("down", "-v", "-t", "0", check=False)


def test_a_project_from_up_to_down(compose: Compose, barque: Stack) -> None:
    compose("up", "-d")
    compose("exec", "-T", "web", "sh", "-c", "echo hello > /data/index.html")
    for service, host in (
        ("worker", "web"),
        ("worker", "linked"),
        ("other", "www"),
        ("other", "web"),
    ):
        assert compose.get(service, host) == "hello\n"
    assert "10.214." in compose("exec", "-T", "worker", "ip", "addr")
    port = compose("port", "web", "80").strip().rpartition(":")[2]
    page = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/"], capture_output=True)
    assert page.stdout == b"hello\n"
    assert compose("ps").count("Up") == 3

    compose("up", "-d", "--scale", "other=3")
    assert compose("ps", "-q", "other").count("\n") == 3
    assert compose("logs", "--no-color", "other").count("started") == 3

    compose("restart", "-t", "0", "web")
    assert compose.get("worker", "web") == "hello\n"  # the volume is still there
    compose("up", "-d", "--force-recreate", "-t", "0", "web")
    assert compose.get("other", "www") == "hello\n"

    compose("down", "-v", "-t", "0")
    assert compose.name not in barque.docker("network", "ls").stdout.decode()
    assert compose.name not in barque.docker("volume", "ls").stdout.decode()
    assert barque.docker("ps", "-aq").stdout == b""


def test_one_off_commands_reach_services(compose: Compose) -> None:
    compose("up", "-d", "web")
    compose("exec", "-T", "web", "sh", "-c", "echo again > /data/index.html")
    page = compose("run", "--rm", "-T", "worker", "wget", "-qO-", "http://web/")
    assert page == "again\n"
