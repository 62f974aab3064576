"""After a start of the machine: what was to be there is there again, and nothing else."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import out

pytestmark = [pytest.mark.root, pytest.mark.peer]
SERVE = "hostname > /index.html; exec httpd -f -p 80 -h /"
LIMIT_S = 60.0


def inspected(barque: Stack, what: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out(barque, what, "inspect", name))[0]
    return found


def wait_running(barque: Stack, *names: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if all(inspected(barque, "container", name)["State"]["Running"] for name in names):
            return
        time.sleep(0.1)
    raise AssertionError(f"{names} do not run: {barque.log.read_text()[-2000:]}")


def get(url: str) -> str:
    argv = ["curl", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", url]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_networks_ports_and_volumes_are_as_they_were(own_barque: Stack) -> None:
    barque = own_barque
    always = ("--restart", "always", "--stop-timeout", "0")
    out(barque, "network", "create", "--ipv6", "--label", "a=b", "front")
    out(barque, "network", "create", "--internal", "back")
    out(barque, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "scratch")
    out(barque, "volume", "create", "kept")
    port = ("-p", "127.0.0.1::80")
    mounts = ("-v", "scratch:/scratch", "-v", "kept:/kept")
    place = ("--network", "front", "--network-alias", "www", "--hostname", "shop")
    out(barque, "run", "-d", "--name", "web", *always, *place, *port, *mounts, "busybox",
        "sh", "-c", SERVE)  # fmt: skip
    out(barque, "run", "-d", "--name", "other", *always, "--network", "back", "busybox",
        "sleep", "600")  # fmt: skip
    out(barque, "network", "connect", "front", "other")
    out(barque, "run", "-d", "--name", "once", "--network", "front", "busybox", "sleep", "600")
    unless = ("--restart", "unless-stopped", "--stop-timeout", "0")
    out(barque, "run", "-d", "--name", "ended", *unless, "busybox", "sleep", "600")
    out(barque, "stop", "ended")
    out(barque, "exec", "web", "sh", "-c", "echo mine > /kept/file; echo gone > /scratch/file")
    before = {name: inspected(barque, "network", name) for name in ("bridge", "front", "back")}

    barque.reboot()
    wait_running(barque, "web", "other")
    for name, was in before.items():
        now = inspected(barque, "network", name)
        assert {**now, "Containers": {}} == {**was, "Containers": {}}
    assert {m["Name"] for m in inspected(barque, "network", "front")["Containers"].values()} == {
        "web",
        "other",
    }
    ports = inspected(barque, "container", "web")["NetworkSettings"]["Ports"]["80/tcp"]
    assert get(f"http://127.0.0.1:{ports[0]['HostPort']}/") == "shop"
    assert out(barque, "exec", "other", "wget", "-qO-", "http://www/") == "shop"
    assert out(barque, "exec", "web", "sh", "-c", "cat /kept/file; ls /scratch") == "mine"
    for name in ("once", "ended"):
        state = inspected(barque, "container", name)["State"]
        assert (state["Status"], state["Running"]) == ("exited", False)
    assert barque.cli("doctor").stdout == b"all in order\n"
    out(barque, "start", "once")
    out(barque, "rm", "-f", "web", "other", "once", "ended")
    out(barque, "network", "rm", "front", "back")
    out(barque, "volume", "rm", "scratch", "kept")
