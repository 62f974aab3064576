"""Restart policies with times of their own: the first delay, the longest one, and a window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.lives import state, until

pytestmark = pytest.mark.root
FAILS = ("busybox", "sh", "-c", "sleep 0.2; exit 1")


def inspect(barque: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(barque.docker("inspect", name).stdout)[0]
    return found


def begin(barque: Stack, policy: str, *command: str) -> str:
    barque.cli("run", "-d", "--name", "again", "--restart", policy, *command)
    return "again"


@pytest.fixture(autouse=True)
def _clean(barque: Stack) -> Iterator[None]:
    yield
    barque.docker("rm", "-f", "again", check=False)


def test_who_runs_for_the_window_begins_anew(barque: Stack) -> None:
    name = begin(barque, "on-failure:1,delay=10ms,window=100ms", *FAILS)
    until(barque, name, lambda _: inspect(barque, name)["RestartCount"] > 2)
    policy = inspect(barque, name)["HostConfig"]["RestartPolicy"]
    assert policy == {
        "Name": "on-failure", "MaximumRetryCount": 1, "Delay": 10_000_000, "Window": 100_000_000,
    }  # fmt: skip


def test_retries_are_counted_within_the_window(barque: Stack) -> None:
    name = begin(barque, "on-failure:1,delay=10ms,window=1h", *FAILS)
    until(barque, name, lambda now: now["Status"] == "exited")
    assert inspect(barque, name)["RestartCount"] == 1


def test_the_first_delay_may_be_long(barque: Stack) -> None:
    name = begin(barque, "always,delay=1h", "busybox", "true")
    until(barque, name, lambda now: now["Status"] == "restarting")
    barque.docker("stop", name)
    assert state(barque, name)["Status"] == "exited"
    barque.cli("update", "--restart", "always,delay=1ms,max=1ms", name)
    barque.docker("start", name)
    until(barque, name, lambda _: inspect(barque, name)["RestartCount"] > 2)
    barque.docker("update", "--restart", "no", name)  # a plain word takes the times away
    policy = inspect(barque, name)["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "no", "MaximumRetryCount": 0}


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("always,delay=1ns", "delay cannot be less than 1ms"),
        ("always,delay=-1s", "delay cannot be less than 1ms"),
        ("always,delay=2s,max=1s", "delay cannot be more than maximum delay"),
        ("no,window=1s", "window can not be used without restarts"),
        ("always,wait=1s", "delay=, max= and window= are there"),
        ("always,delay=x", 'invalid duration "x"'),
        ("always,", "delay=, max= and window= are there"),
    ],
)
def test_what_is_no_policy_is_refused(barque: Stack, policy: str, text: str) -> None:
    done = barque.cli("create", "--restart", policy, "busybox", check=False)
    assert done.returncode in (1, 125)  # refused by the daemon, or by the command
    assert text in done.stderr.decode()
