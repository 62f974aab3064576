"""What is done with a container whose health checks fail, when it is asked to be done."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.lives import LIMIT_S, POLITE, state, until

pytestmark = pytest.mark.root
CHECKED = ("--health-interval", "50ms", "--health-retries", "2")
SICK = (*CHECKED, "--health-cmd", "false")
# It is well from its second run on, long before so many checks have failed.
RECOVERS = ("--health-interval", "50ms", "--health-retries", "8", "--health-cmd", "test -e /well")
SECOND = "test -e /ran && touch /well; touch /ran; "


@contextmanager
def running(barque: Stack, name: str, *options: str, script: str = POLITE) -> Iterator[str]:
    """Its id: earlier ones of the name are in the events too."""
    try:
        done = barque.cli("run", "-d", "--name", name, *options, "busybox", "sh", "-c", script)
        yield done.stdout.decode().strip()
    finally:
        barque.docker("rm", "-f", name, check=False)


def inspect(barque: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(barque.docker("inspect", name).stdout)[0]
    return found


def events_of(barque: Stack, name: str) -> list[dict[str, Any]]:
    until_now = f"{time.time() + 1:.9f}"
    told = barque.docker(
        *("events", "--since", "0", "--until", until_now, "--filter", f"container={name}"),
        *("--format", "{{json .}}"),
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_one_that_is_killed_has_failed(barque: Stack) -> None:
    kill = ("--health-on-failure", "kill", "--restart", "on-failure:1")
    with running(barque, "sick", *SICK, *kill) as name:
        until(barque, name, lambda now: now["Status"] == "exited")
        found = inspect(barque, name)
        assert (found["State"]["ExitCode"], found["RestartCount"]) == (137, 1)
        assert found["HostConfig"]["HealthOnFailure"] == "kill"
        judged = [e for e in events_of(barque, name) if e["Action"] == "health_status: unhealthy"]
        assert [e["Actor"]["Attributes"]["healthOnFailure"] for e in judged] == ["kill", "kill"]


def test_one_that_is_stopped_stays_so(barque: Stack) -> None:
    stop = ("--health-on-failure", "stop", "--restart", "always")
    with running(barque, "sick", *SICK, *stop) as name:
        until(barque, name, lambda now: now["Status"] == "exited")
        found = inspect(barque, name)
        assert (found["State"]["ExitCode"], found["RestartCount"]) == (3, 0)  # it was asked to
        assert "stop" in [event["Action"] for event in events_of(barque, name)]


@pytest.mark.parametrize("more", [(), ("--rm",), ("--restart", "on-failure:3")])
def test_one_that_is_restarted_needs_no_policy(barque: Stack, more: tuple[str, ...]) -> None:
    restart = ("--health-on-failure", "restart", *more)
    with running(barque, "sick", *RECOVERS, *restart, script=SECOND + POLITE) as name:
        until(barque, name, lambda now: now["Status"] == "running" and is_well(now))
        assert inspect(barque, name)["RestartCount"] == 1
        barque.docker("kill", name)  # by hand: that is obeyed
        if "--rm" not in more:
            assert state(barque, name)["Status"] == "exited"


def is_well(now: dict[str, Any]) -> bool:
    return bool(now["Health"]["Status"] == "healthy")


def test_what_is_done_can_be_changed(barque: Stack) -> None:
    with running(barque, "sick", *SICK, "--health-on-failure", "none") as name:
        until(barque, name, lambda now: now["Health"]["FailingStreak"] > 3)
        assert state(barque, name)["Running"]
        barque.cli("update", "--health-on-failure", "stop", name)
        until(barque, name, lambda now: now["Status"] == "exited")
        assert inspect(barque, name)["HostConfig"]["HealthOnFailure"] == "stop"


def test_nothing_is_told_of_what_was_not_asked_for(barque: Stack) -> None:
    with running(barque, "sick", *SICK) as name:
        until(barque, name, lambda now: now["Health"]["FailingStreak"] > 3)
        assert "HealthOnFailure" not in inspect(barque, name)["HostConfig"]
        told = [event["Actor"]["Attributes"] for event in events_of(barque, name)]
        assert not [attributes for attributes in told if "healthOnFailure" in attributes]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--health-on-failure", "restart"), "to restart without a health check"),
        (("--health-on-failure", "kill", "--no-healthcheck"), "to kill without a health check"),
        (("--health-on-failure", "reboot", "--health-cmd", "true"), "invalid on-failure action"),
    ],
)
def test_what_cannot_be_done_is_refused(barque: Stack, options: tuple[str, ...], text: str) -> None:
    done = barque.cli("create", *options, "busybox", check=False)
    assert done.returncode == 1
    assert text in done.stderr.decode()


def test_a_change_without_a_health_check_is_refused(barque: Stack) -> None:
    with running(barque, "well") as name:
        done = barque.cli("update", "--health-on-failure", "stop", name, check=False)
        assert "to stop without a health check" in done.stderr.decode()
        assert "HealthOnFailure" not in inspect(barque, name)["HostConfig"]


def test_a_restart_that_is_due_outlives_the_daemon() -> None:
    deaf = "trap 'touch /asked' TERM; while true; do sleep 0.05; done"
    options = ("--health-on-failure", "restart", "--stop-timeout", "1000")
    with stack() as fresh, running(fresh, "sick", *RECOVERS, *options, script=SECOND + deaf):
        deadline = time.monotonic() + LIMIT_S
        while fresh.docker("exec", "sick", "test", "-e", "/asked", check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pid = state(fresh, "sick")["Pid"]
        fresh.kill("barqued")
        os.kill(pid, signal.SIGKILL)
        fresh.start()
        until(fresh, "sick", lambda now: now["Status"] == "running" and is_well(now))
        assert inspect(fresh, "sick")["RestartCount"] == 1
