"""`start` and `delete` in the caller's own process: done at once, or left to the command."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from barque.runc.main import at_once
from tests.integration.runc.conftest import Case
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours")]


def now(case: Case, name: str) -> bool:
    return at_once(["--root", str(case.runtime.root), name, case.id])


def state(case: Case) -> Path:
    return case.runtime.root / case.id


def test_a_container_is_started_and_deleted_at_once(case: Case) -> None:
    case.create("sh", "-c", "echo hello").check()
    output = case.runtime.last_output
    assert not now(case, "delete")  # it waits to be started, and would have to be killed
    assert now(case, "start")
    assert not now(case, "start")
    case.runtime.wait_stopped(case.id)
    assert output.read_text() == "hello\n"
    wait_for(lambda: now(case, "delete"))  # who has just died may hold its cgroup for a moment
    assert not state(case).exists()
    assert not now(case, "delete")


def test_what_runs_is_not_deleted(case: Case) -> None:
    case.started("sleep", "1000")
    assert not now(case, "delete")
    assert case.runtime.status(case.id) == "running"


def test_what_another_command_works_on_is_left_to_the_command(case: Case) -> None:
    case.create("sleep", "1000").check()
    held = os.open(state(case), os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not now(case, "start")
    finally:
        os.close(held)
    assert case.runtime.status(case.id) == "created"


@pytest.mark.parametrize(("point", "name"), [("poststart", "start"), ("poststop", "delete")])
def test_hooks_have_a_process_of_their_own(case: Case, point: str, name: str) -> None:
    spec = case.configure("true")
    spec["hooks"] = {point: [{"path": "/bin/true"}]}
    case.write(spec)
    case.call("create", "--bundle", str(case.bundle), case.id).check()
    if name == "delete":
        assert now(case, "start")
        case.runtime.wait_stopped(case.id)
    assert not now(case, name)
    assert state(case).exists()


@pytest.mark.parametrize(
    "words", [("state", "x"), ("delete", "--force", "x"), ("start",), (), ("--foo",)]
)
def test_other_commands_are_not_for_it(case: Case, words: tuple[str, ...]) -> None:
    assert not at_once(["--root", str(case.runtime.root), *words])
