"""`create` killed at any instant: `delete --force` removes whatever it had made."""

import os
import subprocess
import time

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import cgroups_of, wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours")]


@pytest.mark.parametrize("delay_ms", range(20, 80, 4))
def test_kill_and_delete(case: Case, delay_ms: int) -> None:
    case.write(case.configure("sleep", "1000"))
    argv = case.runtime.argv("create", "--bundle", str(case.bundle), case.id)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay_ms / 1000)
        process.kill()
    case.call("delete", "--force", case.id).check()
    wait_for(lambda: not cgroups_of(case.id))
    assert not (case.runtime.root / case.id).exists()
    case.create("true").check()


def test_a_container_that_is_being_made(case: Case) -> None:
    """Its state is `creating`, and `delete` waits until it is made."""
    spec = case.configure("sleep", "1000")
    gate = case.place / "gate"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"read line <{gate}"]}
    spec["hooks"] = {"createRuntime": [hook]}
    case.write(spec)
    argv = case.runtime.argv("create", "--bundle", str(case.bundle), case.id)
    delete = case.runtime.argv("delete", "--force", case.id)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: os.path.exists(case.runtime.root / case.id / "state.json"))
            assert case.runtime.status(case.id) == "creating"
            assert "container not running" in case.call("kill", case.id, "KILL").err
            with subprocess.Popen(delete) as waiting:
                os.write(opened, b"go\n")
                assert process.wait() == 0
                assert waiting.wait() == 0
        finally:
            os.write(opened, b"go\n")
            os.close(opened)
    assert not cgroups_of(case.id)
