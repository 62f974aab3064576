"""`--metrics-addr`: Prometheus's figures of our engine, and Debian's, after the same life."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.barque import stack
from tests.support.docker_peer import docker_peer
from tests.support.engine_api import ask
from tests.support.lives import until
from tests.support.registry_peer import free_port

pytestmark = [pytest.mark.root, pytest.mark.peer]
Scrape = Callable[[str], str]


@pytest.fixture(scope="module", params=["ours", "docker"])
def measured(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Scrape]]:
    """An engine, and what its address of metrics answers a request for a path."""
    address = f"127.0.0.1:{free_port()}"
    flags = ["--metrics-addr", address]

    def scrape(path: str, *within: str) -> str:
        argv = [*within, "curl", "-s", "-i", f"http://{address}{path}"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    if request.param == "ours":
        with stack(*flags) as barque:
            yield barque, scrape
    else:
        with docker_peer(["--experimental", *flags]) as peer:
            netns = f"--net=/run/netns/{peer.netns}"
            yield peer, lambda path: scrape(path, "nsenter", netns)


def values(text: str) -> dict[str, float]:
    found = {}
    for line in text.partition("\n\n")[2].splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_a_life_is_counted(measured: tuple[Any, Scrape]) -> None:
    engine, scrape = measured
    before = values(scrape("/metrics"))
    health = ("--health-cmd", "true", "--health-interval", "100ms")
    engine.docker("run", "-d", "--name", "counted", "--network", "none", *health, "busybox",
                  "sleep", "1000")  # fmt: skip
    until(engine, "counted", lambda now: now["Health"]["Status"] == "healthy")
    running = values(scrape("/metrics"))
    engine.docker("diff", "counted")
    engine.docker("commit", "counted", "made")
    engine.docker("rm", "-f", "counted")
    after = values(scrape("/metrics"))
    for action in ("changes", "commit", "create", "delete", "start"):
        name = f'engine_daemon_container_actions_seconds_count{{action="{action}"}}'
        assert after[name] - before[name] == 1, action
        bucket = f'engine_daemon_container_actions_seconds_bucket{{action="{action}",le="+Inf"}}'
        assert after[bucket] == after[name]
    assert running['engine_daemon_container_states_containers{state="running"}'] == 1
    assert after['engine_daemon_container_states_containers{state="running"}'] == 0
    assert running["engine_daemon_health_checks_total"] > 0
    assert running["engine_daemon_health_checks_failed_total"] == 0
    assert after["engine_daemon_events_total"] > before["engine_daemon_events_total"]
    for name in (
        *("engine_daemon_engine_cpus_cpus", "engine_daemon_engine_memory_bytes"),
        *("process_cpu_seconds_total", "process_max_fds", "process_open_fds"),
        *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
        "process_start_time_seconds",
    ):
        assert after[name] > 0, name


def test_nothing_else_is_there(measured: tuple[Any, Scrape]) -> None:
    engine, scrape = measured
    assert "\ncontent-type: text/plain; version=0.0.4" in scrape("/metrics").lower()
    assert scrape("/containers/json").startswith("HTTP/1.1 404")
    assert ask(engine.socket, "GET", "/metrics").status == 404
