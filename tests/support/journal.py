"""A systemd-journald of its own, in a mount namespace that one thread of the tests has alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from barque.linux.mount import MS_PRIVATE, MS_REC, mount
from barque.linux.namespaces import CLONE_NEWNS, unshare
from tests.support.runtimes import wait_for

Result = TypeVar("Result")
PROGRAM = "/lib/systemd/systemd-journald"
PLACES = (Path("/run/systemd"), Path("/run/log"))  # what it has, and what it keeps
SOCKET = PLACES[0] / "journal/socket"
END_LIMIT_S = 30


class Journal:
    """`inside` runs what shall see the journal: a daemon too, and all that it starts."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    def inside(self, call: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        return self._thread.submit(call, *arguments, **named).result()

    def entries(self, container: str) -> list[dict[str, Any]]:
        """Of a container's name, the first one first."""

        def read(*command: str) -> str:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            return done.stdout

        self.inside(read, "journalctl", "--sync")
        only = f"CONTAINER_NAME={container}"
        found = self.inside(read, "journalctl", "--output=json", "--all", "--no-pager", only)
        return [json.loads(line) for line in found.splitlines()]


@contextmanager
def journal() -> Iterator[Journal]:
    with ExitStack() as undo:
        made = [place for place in PLACES if not place.exists()]
        for place in made:
            place.mkdir()
            undo.callback(place.rmdir)
        thread = undo.enter_context(ThreadPoolExecutor(1))
        started = thread.submit(_start).result()
        undo.callback(_end, started)
        yield Journal(thread)


def _start() -> subprocess.Popen[bytes]:
    """A thread that makes a mount namespace is in it alone; its children are born there."""
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_PRIVATE | MS_REC)
    for place in PLACES:
        mount("tmpfs", place, "tmpfs")
    SOCKET.parent.mkdir()
    process = subprocess.Popen([PROGRAM], stderr=subprocess.DEVNULL)
    wait_for(SOCKET.exists)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(END_LIMIT_S)
