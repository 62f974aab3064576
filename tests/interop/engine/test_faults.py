"""A process of ours gets no more descriptors, or may write no more: an error, and the old state.

The faults are the kernel's own: a limit is taken away from the running process (prlimit) and given
back. What was answered with success is there, what was answered with an error is not, and the next
try succeeds.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_peer import busybox_tar
from tests.support.engine_api import Answer

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(300)]
LIMIT_S = 60
DAEMON, CONTAINERD = "barqued", "barque-containerd"


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=LIMIT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(str(self.path))


class Client:
    """One connection, made before a fault begins: during one there may be no other."""

    def __init__(self, barque: Stack) -> None:
        self._connection = Connection(barque.socket)

    def ask(self, method: str, target: str, document: Any = None, body: bytes = b"") -> Answer:
        headers = {}
        if document is not None:
            body, headers["Content-Type"] = json.dumps(document).encode(), "application/json"
        with suppress(BrokenPipeError):  # it has answered, and reads no more
            self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())


def free_descriptors(pid: int, count: int) -> list[int]:
    """The numbers that its next descriptors will have."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return [number for number in range(max(used) + count + 2) if number not in used]


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def failed(answer: Answer) -> bool:
    """Whether it says so, in one line that is no bug's."""
    if answer.status < 400 and b"errorDetail" not in answer.body:
        return False
    text = answer.body.decode()
    assert "Traceback" not in text, text
    assert re.search(r'"message":\s*"[^"]', text), answer
    return True


class World:
    """Each operation makes one thing of the name given; `there` is what a client sees of it."""

    def __init__(self, barque: Stack) -> None:
        self.client = Client(barque)

    def names(self) -> list[str]:
        return ["image", "tag", "volume", "network", "container", "start"]

    def make(self, what: str, name: str) -> Answer:
        ask = self.client.ask
        if what == "image":
            return ask("POST", f"/images/create?fromSrc=-&repo={name}", body=busybox_tar())
        if what == "tag":
            return ask("POST", f"/images/busybox/tag?repo={name}&tag=t")
        if what == "volume":
            return ask("POST", "/volumes/create", {"Name": name})
        if what == "network":
            return ask("POST", "/networks/create", {"Name": name})
        if what == "container":
            host = {"NetworkMode": "none"}
            document = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host}
            return ask("POST", f"/containers/create?name={name}", document)
        return ask("POST", f"/containers/{name}/start")

    def there(self, what: str, name: str) -> bool:
        target = {
            "image": f"/images/{name}/json",
            "tag": f"/images/{name}:t/json",
            "volume": f"/volumes/{name}",
            "network": f"/networks/{name}",
        }.get(what, f"/containers/{name}/json")
        answer = self.client.ask("GET", target)
        assert answer.status in (200, 404), answer
        if what == "start":
            return bool(answer.json()["State"]["Running"])
        return answer.status == 200

    def remove(self, what: str, name: str) -> None:
        target = {
            "image": f"/images/{name}",
            "tag": f"/images/{name}:t",
            "volume": f"/volumes/{name}",
            "network": f"/networks/{name}",
        }.get(what, f"/containers/{name}?force=1")
        answer = self.client.ask("DELETE", target)
        assert answer.status < 300, answer


def pid_of(barque: Stack, program: str) -> int:
    (pid,) = [pid for pid in barque.pids("") if name_of(pid) == program[:15]]
    return pid


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has gone meanwhile


def try_all(barque: Stack, steps: Callable[[], Iterator[tuple[int, int, int]]]) -> int:
    """Each operation under each fault; how many failed."""
    world, failures, number = World(barque), 0, 0
    for what in world.names():
        for pid, limit, soft in steps():
            number += 1
            name = f"thing{number}"
            if what == "start":
                assert not failed(world.make("container", name))
            assert world.client.ask("GET", "/_ping").status == 200
            with limited(pid, limit, soft):
                answer = world.make(what, name)
            wrong = failed(answer)
            failures += wrong
            assert world.there(what, name) is not wrong, (what, soft, answer)
            if wrong:
                again = world.make(what, name)
                assert not failed(again), (what, soft, answer, again)
                assert world.there(what, name)
            world.remove(what, name)
    return failures


@pytest.mark.parametrize("program", [DAEMON, CONTAINERD])
def test_no_more_descriptors(own_barque: Stack, program: str) -> None:
    pid = pid_of(own_barque, program)

    def steps() -> Iterator[tuple[int, int, int]]:
        for more in (0, 1, 2, 4):
            yield pid, resource.RLIMIT_NOFILE, free_descriptors(pid, more)[more]

    assert try_all(own_barque, steps) > 0
    assert own_barque.docker("run", "--rm", "busybox", "echo", "well").stdout == b"well\n"


@pytest.mark.parametrize("program", [DAEMON, CONTAINERD])
def test_no_more_bytes(own_barque: Stack, program: str) -> None:
    """No file can be written beyond so many bytes: none, a page, what a document takes."""
    pid = pid_of(own_barque, program)

    def steps() -> Iterator[tuple[int, int, int]]:
        for size in (0, 4096, 1 << 16):
            yield pid, resource.RLIMIT_FSIZE, size

    assert try_all(own_barque, steps) > 0
    assert own_barque.docker("run", "--rm", "busybox", "echo", "well").stdout == b"well\n"
