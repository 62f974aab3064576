"""`barque checkpoint` where criu works: a container goes on where it was saved."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack, stack
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/count; echo $i; sleep 0.1; done"


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack("--experimental") as made:
        yield made


def cli(barque: Stack, *arguments: str) -> str:
    return barque.cli(*arguments, timeout_s=120).stdout.decode()


def state(barque: Stack, container: str) -> str:
    found: str = json.loads(cli(barque, "inspect", container))[0]["State"]["Status"]
    return found


def counted(barque: Stack, container: str) -> int:
    return int(cli(barque, "exec", container, "cat", "/count").strip() or 0)


def logged(barque: Stack, container: str) -> list[int]:
    return [int(line) for line in cli(barque, "logs", container).split()]


def test_a_container_goes_on_where_it_was_saved(barque: Stack) -> None:
    flags = ("--name", "saved", "--restart", "always", "-p", "127.0.0.1::80")
    cli(barque, "run", "-d", *flags, "busybox", "sh", "-c", COUNT)
    wait_for(lambda: counted(barque, "saved") > 3)
    assert cli(barque, "checkpoint", "create", "--leave-running", "saved", "early") == "early\n"
    at = counted(barque, "saved")
    wait_for(lambda: counted(barque, "saved") > at)
    cli(barque, "checkpoint", "create", "saved", "late")
    wait_for(lambda: state(barque, "saved") == "exited")  # and its policy leaves it so
    assert cli(barque, "checkpoint", "ls", "saved").split()[2:] == ["early", "late"]
    last = logged(barque, "saved")[-1]
    cli(barque, "start", "--checkpoint", "late", "saved")
    wait_for(lambda: counted(barque, "saved") > last + 3)
    told = logged(barque, "saved")
    assert sorted(set(told)) == list(range(1, told[-1] + 1))
    cli(barque, "stop", "-t", "1", "saved")
    assert cli(barque, "start", "--checkpoint", "late", "saved") == "saved\n"  # as often as wanted
    cli(barque, "rm", "-f", "saved")
    wait_for(lambda: not list((barque.root / "d/containers").iterdir()))


def test_a_directory_of_the_users(barque: Stack, tmp_path: Path) -> None:
    cli(barque, "run", "-d", "--name", "moved", "--network", "none", "busybox", "sh", "-c", COUNT)
    wait_for(lambda: counted(barque, "moved") > 3)
    cli(barque, "checkpoint", "create", "--checkpoint-dir", str(tmp_path), "moved", "one")
    wait_for(lambda: state(barque, "moved") == "exited")
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]
    last = logged(barque, "moved")[-1]
    cli(barque, "start", "--checkpoint", "one", "--checkpoint-dir", str(tmp_path), "moved")
    wait_for(lambda: counted(barque, "moved") > last)
    cli(barque, "rm", "-f", "moved")
    assert list((barque.root / "d/containerd/checkpoints").glob("*/*")) == []
