"""The restart monitor, ours and the real one: what the labels of a container's record ask for.

The real one ends a task that is created and not yet started: labels come when it runs.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import cgroups, rootfs
from tests.support.containerds import configured

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]

RUNTIME = {"ours": "io.containerd.barque.v2", "real": "io.containerd.runc.v2"}
INTERVAL = '[plugins."io.containerd.internal.v1.restart"]\ninterval = "200ms"\n'
LABEL = "containerd.io/restart."
PATIENCE_S = 60.0


class Containerd:
    """A namespace of its own at a server with a short interval."""

    def __init__(self, root: Path, runtime: str, bundle_root: Path) -> None:
        self.namespace = f"bq{secrets.token_hex(4)}"
        self.root = bundle_root
        self._ctr = ["ctr", "--address", str(root / "c.sock"), "--namespace", self.namespace]
        self._runtime = runtime

    def ctr(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._ctr, *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def make(self, *command: str, run: bool = True) -> None:
        """A container "one"."""
        verb = ["run", "--detach", "--null-io"] if run else ["containers", "create"]
        runtime = ["--runtime", self._runtime, "--env", "PATH=/bin"]
        self.ctr(*verb, *runtime, "--rootfs", str(self.root), "one", *command)

    def set_labels(self, **labels: str) -> None:
        """Named without what they have in common."""
        words = [f"{LABEL}{name}={value}" for name, value in labels.items()]
        self.ctr("containers", "label", "one", *words)

    def task(self) -> tuple[int, str]:
        """Its pid and status; 0 and "" when there is none."""
        rows = [line.split() for line in self.ctr("tasks", "ls").splitlines()[1:]]
        return next(((int(pid), status) for _, pid, status in rows), (0, ""))

    def label(self, name: str) -> str:
        rows = self.ctr("containers", "info", "one").splitlines()
        found = [line for line in rows if f'"{LABEL}{name}"' in line]
        return found[0].split('"')[3] if found else ""

    def remove(self) -> None:
        self.ctr("containers", "label", "one", f"{LABEL}status=", check=False)
        eventually(self._gone)

    def _gone(self) -> bool:
        self.ctr("tasks", "rm", "--force", "one", check=False)
        self.ctr("containers", "rm", "one", check=False)
        return self.task() == (0, "")


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module", params=["ours", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """Its directory, and the runtime to use there."""
    with configured(request.param, INTERVAL) as (root, _):
        yield root, RUNTIME[request.param]


@pytest.fixture
def it(server: tuple[Path, str]) -> Iterator[Containerd]:
    with rootfs.temporary() as place:
        namespace = Containerd(*server, rootfs.build(place / "rootfs"))
        try:
            yield namespace
        finally:
            namespace.remove()
            assert cgroups.remove(namespace.namespace) == []


def test_a_task_that_ended_runs_again(it: Containerd) -> None:
    it.make("sleep", "1000")
    first, _ = it.task()
    it.set_labels(status="running")
    it.ctr("tasks", "kill", "--signal", "KILL", "one")
    eventually(lambda: it.task()[0] not in (0, first) and it.task()[1] == "RUNNING")


def test_a_container_without_a_task_gets_one(it: Containerd) -> None:
    """As after the machine was started."""
    it.make("sleep", "1000", run=False)
    it.set_labels(status="running", policy="unless-stopped")
    eventually(lambda: it.task()[1] == "RUNNING")


@pytest.mark.parametrize(
    "server", ["ours"], indirect=True
)  # the real one of that age has no policies
def test_failures_are_counted(it: Containerd) -> None:
    it.make("sh", "-c", "exit 3")
    it.set_labels(status="running", policy="on-failure:2")
    eventually(lambda: it.label("count") == "2" and it.task()[1] == "STOPPED")


def test_one_that_is_to_be_stopped(it: Containerd) -> None:
    it.make("sleep", "1000")
    it.set_labels(status="stopped")
    eventually(lambda: it.task()[1] in ("", "STOPPED"))


def test_its_output_goes_where_the_label_says(it: Containerd) -> None:
    log = it.root.parent / "log"
    it.make("echo", "again", run=False)
    it.set_labels(status="running", logpath=str(log))
    eventually(lambda: log.exists() and log.read_text().startswith("again\n"))
