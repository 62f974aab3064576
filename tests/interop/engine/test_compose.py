"""The real docker-compose on our socket: several networks, aliases, volumes, scale."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack

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


LARGER = """
x-base: &base
  image: busybox
  init: true
  stop_grace_period: 0s
  logging: {driver: json-file, options: {max-size: "1m", max-file: "2"}}
services:
  db:
    <<: *base
    command: [sh, -c, "sleep 1; echo 1 > /data/up; exec httpd -f -p 5432 -h /data"]
    healthcheck: {test: ["CMD", "test", "-e", "/data/up"], interval: 0.2s, retries: 100}
    volumes: ["store:/data", "/scratch"]
    networks: {inner: {aliases: [database]}}
    tmpfs: ["/run:size=1m"]
    ulimits: {nofile: {soft: 100, hard: 200}}
    mem_limit: 64m
  api:
    <<: *base
    command: [sh, -c, "wget -qO- http://database:5432/up && exec httpd -f -p 80 -h /srv"]
    depends_on: {db: {condition: service_healthy}}
    environment: {FROM_FILE: "${WORD}", PLAIN: text}
    volumes: ["./srv:/srv:ro"]
    networks: [inner, outer]
    read_only: true
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    sysctls: {net.ipv4.ip_unprivileged_port_start: "0"}
    labels: {kind: backend}
  web:
    <<: *base
    command: [sh, -c, "exec sleep 600"]
    depends_on: [api]
    ports: ["127.0.0.1::80"]
    networks: [outer]
    extra_hosts: ["fixed:10.9.8.7"]
    hostname: front
    user: "1000:1000"
    working_dir: /tmp
  job:
    <<: *base
    profiles: [once]
    command: [sh, -c, "exit 4"]
    networks: [inner]
networks:
  inner: {internal: true}
  outer: {labels: {side: outside}}
volumes:
  store: {labels: {keep: "no"}}
"""


@pytest.fixture
def larger(barque: Stack, tmp_path: Path) -> Iterator[Compose]:
    (tmp_path / "docker-compose.yml").write_text(LARGER)
    (tmp_path / ".env").write_text("WORD=of the file\n")
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "index.html").write_text("served\n")
    made = Compose(barque, tmp_path)
    yield made
    made("down", "-v", "-t", "0", "--remove-orphans", check=False)


def test_a_larger_project(larger: Compose, barque: Stack) -> None:
    """Health decides who comes first; several of one service; all that is asked for holds."""

    def inside(service: str, *argv: str) -> str:
        container = f"{larger.name}_{service}"
        return barque.docker("exec", container, *argv, check=False).stdout.decode()

    larger("up", "-d", "--scale", "api=2")
    shown = barque.docker("ps", "--format", "{{.Status}}").stdout
    assert (shown.count(b"Up "), shown.count(b"(healthy)")) == (4, 1)
    assert larger("logs", "--no-color", "api").count("| 1\n") == 2  # it came when db was up
    assert inside("web_1", "wget", "-qO-", "http://api/") == "served\n"
    assert inside("api_2", "sh", "-c", "echo $FROM_FILE,$PLAIN") == "of the file,text\n"
    found = inside("web_1", "sh", "-c", "id -u; hostname; pwd; grep fixed /etc/hosts")
    assert found.split() == ["1000", "front", "/tmp", "10.9.8.7", "fixed"]
    assert inside("db_1", "sh", "-c", "ulimit -n; ulimit -Hn").split() == ["100", "200"]
    assert inside("api_1", "sh", "-c", "touch /file || echo refused") == "refused\n"
    assert inside("api_1", "wget", "-qO-", "http://database:5432/up") == "1\n"
    members = ("network", "inspect", f"{larger.name}_inner", "-f", "{{len .Containers}}")
    assert barque.docker(*members).stdout == b"3\n"
    names = ("network", "ls", "--format", "{{.Name}} {{.Internal}}")
    assert f"{larger.name}_inner true" in barque.docker(*names).stdout.decode()

    larger("pause", "web")
    larger("unpause", "web")
    larger("kill", "-s", "SIGKILL", "web")
    larger("start", "web")
    larger("up", "-d", "--scale", "api=1", "--no-recreate", "-t", "0")
    assert larger("ps", "-q").count("\n") == 3
    larger("down", "-v", "-t", "0")
    for kind in ("network", "volume"):
        assert larger.name not in barque.docker(kind, "ls").stdout.decode()
    assert barque.docker("ps", "-aq").stdout == b""
    assert barque.docker("volume", "ls", "-q").stdout == b""
