"""Without live-restore containers end with the daemon, and policies start them again."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.barque import Stack, stack
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
SCRIPT = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done"
FORMAT = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack("--live-restore=false") as made:
        yield made


def run(barque: Stack, name: str, *flags: str) -> None:
    barque.docker("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", SCRIPT)
    wait_for(lambda: barque.docker("logs", name).stdout == b"up\n")


def shown(barque: Stack, name: str) -> str:
    return barque.docker("inspect", "-f", FORMAT, name).stdout.decode().strip()


def test_info_tells(barque: Stack) -> None:
    assert barque.docker("info", "-f", "{{.LiveRestoreEnabled}}").stdout == b"false\n"


def again(barque: Stack, name: str) -> bool:
    return barque.docker("logs", name).stdout == b"up\nasked\nup\n"


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_the_end_of_the_daemon_is_theirs(barque: Stack, end: str) -> None:
    run(barque, "plain")
    run(barque, "always", "--restart", "always")
    run(barque, "failing", "--restart", "on-failure")
    run(barque, "kept", "--restart", "unless-stopped")
    run(barque, "halted", "--restart", "unless-stopped")
    run(barque, "once", "--rm")
    barque.docker("stop", "halted")
    if end == "stopped":
        barque.restart()
    else:
        barque.kill("barqued")
        barque.start()
    try:
        wait_for(lambda: shown(barque, "plain") == "exited 3 0")
        for name in ("always", "failing", "kept"):
            wait_for(partial(again, barque, name))
            assert shown(barque, name) == "running 0 0"
        assert shown(barque, "halted") == "exited 3 0"
        wait_for(lambda: barque.docker("inspect", "once", check=False).returncode == 1)
    finally:
        names = ("plain", "always", "failing", "kept", "halted", "once")
        barque.docker("rm", "-f", *names, check=False)


def test_who_does_not_end_is_ended(barque: Stack) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    run = ("run", "-d", "--name", "deaf", "--stop-timeout", "1", "busybox", "sh", "-c", script)
    barque.docker(*run)
    wait_for(lambda: barque.docker("logs", "deaf").stdout == b"up\n")
    barque.restart()
    assert shown(barque, "deaf") == "exited 137 0"
    barque.docker("rm", "deaf")
