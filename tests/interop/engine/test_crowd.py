"""A crowd of clients at few objects, each doing anything at any time, and some leave at once.

Every answer is one of the API's, nobody waits for ever, and in the end nothing is left. The calls
are seeded; BARQUE_CROWD_CALLS (of each client) makes it longer, BARQUE_CROWD_SEED another.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.engine_api import Answer, ask, connect

CLIENTS = 8
CALLS = int(os.environ.get("BARQUE_CROWD_CALLS", "60"))
pytestmark = [pytest.mark.root, pytest.mark.timeout(300 + CALLS)]
SEED = os.environ.get("BARQUE_CROWD_SEED", "20261121")
RIGHT = {200, 201, 204, 304, 400, 403, 404, 409}
SETTLE_S = 30
MORE_DESCRIPTORS = 8  # warm network namespaces come and go
COMMANDS = (
    ["sleep", "100"],
    ["sh", "-c", "yes | head -c 200000; sleep 1; exit 3"],
    ["true"],
    ["nosuch"],
    ["sh", "-c", "trap '' TERM; while :; do echo x; sleep .1; done"],
    ["cat"],
)
Body = dict[str, Any] | bytes | None
Call = tuple[str, str, Body]


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 1000
        archive.addfile(entry, io.BytesIO(b"x" * 1000))
    return buffer.getvalue()


class Member:
    """One client; it knows the names of all objects that may be there."""

    def __init__(self, barque: Stack, number: int) -> None:
        self.barque = barque
        self.source = random.Random(f"{SEED}/{number}")
        self.wrong: list[tuple[str, str, int, bytes]] = []

    def name(self, kind: str) -> str:
        return f"{kind}{self.source.randrange(4)}"

    def run(self) -> list[tuple[str, str, int, bytes]]:
        for _ in range(CALLS):
            way = self.source.random()
            if way < 0.08:
                self.leave_early()
            elif way < 0.16:
                self.exec()
            else:
                self.note(*(self.create() if way < 0.26 else self.anything()))
        return self.wrong

    def note(self, method: str, target: str, body: Body) -> Answer:
        path = self.barque.socket
        if isinstance(body, dict):
            answer = ask(path, method, target, document=body)
        else:
            answer = ask(path, method, target, body)
        if answer.status not in RIGHT:
            self.wrong.append((method, target, answer.status, answer.body[:300]))
        return answer

    def create(self) -> Call:
        source = self.source
        networks = ("none", "bridge", "bridge", self.name("net"), f"container:{self.name('c')}")
        host: dict[str, Any] = {
            "AutoRemove": source.random() < 0.3,
            "NetworkMode": source.choice(networks),
            "Init": source.random() < 0.3,
        }
        if source.random() < 0.3:
            host["Binds"] = [f"{self.name('vol')}:/v"]
        if source.random() < 0.2 and not host["AutoRemove"]:
            host["RestartPolicy"] = {"Name": "always"}
        document: dict[str, Any] = {
            "Image": source.choice(("busybox", "busybox", self.name("img"))),
            "Cmd": source.choice(COMMANDS),
            "StopTimeout": 0,
            "Tty": source.random() < 0.2,
            "OpenStdin": source.random() < 0.3,
            "HostConfig": host,
        }
        if host["NetworkMode"] == "bridge" and source.random() < 0.3:
            host["PublishAllPorts"] = True
            document["ExposedPorts"] = {"80/tcp": {}, "81/udp": {}}
        if source.random() < 0.2:
            document["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": 300_000_000}
        return "POST", f"/containers/create?name={self.name('c')}", document

    def anything(self) -> Call:
        one, net, vol, img = (self.name(kind) for kind in ("c", "net", "vol", "img"))
        member: Body = {"Container": one}
        calls: list[Call] = [
            *[("POST", f"/containers/{one}/start", None)] * 4,
            *[("POST", f"/containers/{one}/unpause", None)] * 2,
            ("POST", f"/containers/{one}/stop?t=0", None),
            ("POST", f"/containers/{one}/kill", None),
            ("POST", f"/containers/{one}/kill?signal=HUP", None),
            ("POST", f"/containers/{one}/restart?t=0", None),
            ("POST", f"/containers/{one}/pause", None),
            ("POST", f"/containers/{one}/rename?name={self.name('c')}", None),
            ("POST", f"/containers/{one}/update", {"Memory": 64 << 20, "MemorySwap": -1}),
            ("POST", f"/containers/{one}/resize?h=10&w=10", None),
            ("POST", f"/commit?container={one}&repo={img}", {}),
            ("PUT", f"/containers/{one}/archive?path=/tmp", _tar()),
            ("GET", f"/containers/{one}/archive?path=/etc", None),
            ("HEAD", f"/containers/{one}/archive?path=/bin", None),
            ("GET", f"/containers/{one}/json?size=1", None),
            ("GET", f"/containers/{one}/top", None),
            ("GET", f"/containers/{one}/logs?stdout=1&stderr=1&tail=10", None),
            ("GET", f"/containers/{one}/changes", None),
            ("GET", f"/containers/{one}/stats?stream=0&one-shot=1", None),
            ("DELETE", f"/containers/{one}?force=1&v=1", None),
            ("DELETE", f"/containers/{one}", None),
            ("GET", "/containers/json?all=1&size=1", None),
            ("POST", f"/images/busybox/tag?repo={img}", None),
            ("DELETE", f"/images/{img}?force=1", None),
            ("GET", "/images/json?all=1", None),
            ("GET", f"/images/{img}/history", None),
            ("POST", "/networks/create", {"Name": net}),
            ("DELETE", f"/networks/{net}", None),
            ("GET", f"/networks/{net}", None),
            ("POST", f"/networks/{net}/connect", member),
            ("POST", f"/networks/{net}/disconnect", member),
            ("POST", "/volumes/create", {"Name": vol}),
            ("DELETE", f"/volumes/{vol}", None),
            ("POST", "/volumes/prune", None),
            ("GET", "/system/df", None),
            ("GET", f"/events?since={time.time() - 5:.3f}&until={time.time():.3f}", None),
        ]
        return self.source.choice(calls)

    def exec(self) -> None:
        commands = (["true"], ["sleep", "5"], ["cat"], ["sh", "-c", "yes | head -c 100000"])
        document: Body = {
            "Cmd": self.source.choice(commands),
            "AttachStdin": self.source.random() < 0.5,
            "AttachStdout": True,
            "Tty": self.source.random() < 0.3,
        }
        made = self.note("POST", f"/containers/{self.name('c')}/exec", document)
        if made.status != 201:
            return
        target = f"/exec/{made.json()['Id']}"
        if self.source.random() < 0.5:
            self.note("POST", f"{target}/start", {"Detach": True})
            self.note("GET", f"{target}/json", None)
        else:
            self.vanish("POST", f"{target}/start", b'{"Detach":false}')

    def leave_early(self) -> None:
        one = self.name("c")
        ways = (
            ("GET", f"/containers/{one}/logs?stdout=1&follow=1"),
            ("GET", f"/containers/{one}/stats"),
            ("POST", f"/containers/{one}/attach?stream=1&stdout=1&stdin=1&logs=1"),
            ("POST", f"/containers/{one}/wait"),
            ("GET", f"/containers/{one}/export"),
            ("GET", "/events"),
            ("GET", "/images/busybox/get"),
        )
        self.vanish(*self.source.choice(ways))

    def vanish(self, method: str, target: str, body: bytes = b"") -> None:
        """Ask, read nothing, go."""
        upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if self.source.random() < 0.5 else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n{upgrade}Content-Length: {len(body)}\r\n"
        client = connect(self.barque.socket)
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(self.source.random() * 0.1)
        client.close()


def test_the_same_file_from_many_at_once(barque: Stack) -> None:
    """Archives go into a container that runs one after the other."""
    run = ("run", "-d", "--name", "filled", "--network", "none", "busybox", "sleep", "1000")
    barque.docker(*run)
    try:

        def fill(_number: int) -> int:
            target = "/containers/filled/archive?path=/tmp"
            return max(ask(barque.socket, "PUT", target, _tar()).status for _ in range(6))

        with ThreadPoolExecutor(CLIENTS) as pool:
            assert set(pool.map(fill, range(CLIENTS))) == {200}
    finally:
        barque.docker("rm", "-f", "filled")


def test_the_same_file_while_it_starts_and_ends(barque: Stack) -> None:
    """Whoever fills it waits for who starts it, and neither for ever."""
    barque.docker("create", "--name", "shortlived", "--network", "none", "busybox", "true")
    filled = threading.Event()

    def fill(_number: int) -> int:
        target = "/containers/shortlived/archive?path=/tmp"
        return max(ask(barque.socket, "PUT", target, _tar()).status for _ in range(3))

    def live() -> None:
        while not filled.is_set():
            assert ask(barque.socket, "POST", "/containers/shortlived/start").status in RIGHT
            ask(barque.socket, "POST", "/containers/shortlived/wait")

    try:
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            living = pool.submit(live)
            try:
                assert set(pool.map(fill, range(CLIENTS))) == {200}
            finally:
                filled.set()
            living.result()
    finally:
        barque.docker("rm", "-f", "shortlived")


def held(barque: Stack) -> int:
    assert barque.daemon is not None
    return len(os.listdir(f"/proc/{barque.daemon.pid}/fd"))


def becomes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SETTLE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_anything_at_any_time(own_barque: Stack) -> None:
    barque = own_barque
    barque.docker("run", "--rm", "busybox", "true")  # so that all that is kept open is open
    before = held(barque)
    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = list(pool.map(lambda number: Member(barque, number).run(), range(CLIENTS)))
    assert [one for some in wrong for one in some] == []
    for container in ask(barque.socket, "GET", "/containers/json?all=1").json():
        gone = ask(barque.socket, "DELETE", f"/containers/{container['Id']}?force=1&v=1")
        assert gone.status in (204, 404, 409), gone  # a --rm one may be going by itself
    assert becomes(lambda: ask(barque.socket, "GET", "/containers/json?all=1").json() == [])
    assert becomes(lambda: barque.leftover_sandboxes() == []), barque.leftover_sandboxes()
    assert becomes(lambda: held(barque) <= before + MORE_DESCRIPTORS), (before, held(barque))
    assert "Traceback" not in barque.log.read_text()
