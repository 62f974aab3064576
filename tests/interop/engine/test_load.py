"""Load and faults: many requests at once, requests cut anywhere, clients that race."""

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.engine_api import Answer, ask, connect

pytestmark = [pytest.mark.root]
CLIENTS = 64
REQUESTS = int(os.environ.get("BARQUE_LOAD_REQUESTS", "3000"))
RACERS = 16
RACE_STEPS = 30
SEED = 20261121
SETTLE_S = 20
TARGETS = (
    *("/_ping", "/version", "/info", "/containers/json?all=1", "/images/json", "/networks"),
    *("/volumes", "/containers/none/json", "/nosuch", "/events?since=0&until=1", "/system/df"),
)


def descriptors(barque: Stack) -> int:
    assert barque.daemon is not None
    return len(os.listdir(f"/proc/{barque.daemon.pid}/fd"))


def settled(barque: Stack, before: int) -> bool:
    """The daemon has closed what it had opened; warm network namespaces may come and go."""
    deadline = time.monotonic() + SETTLE_S
    while descriptors(barque) > before + 8:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def unexplained(barque: Stack) -> list[str]:
    """What the daemon's log says of bugs: an internal error always leaves a traceback there."""
    return [line for line in barque.log.read_text().splitlines() if "Traceback" in line]


def test_many_requests_at_once(own_barque: Stack) -> None:
    ask(own_barque.socket, "GET", "/info")
    before = descriptors(own_barque)

    def one(number: int) -> int:
        return ask(own_barque.socket, "GET", TARGETS[number % len(TARGETS)]).status

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = list(pool.map(one, range(REQUESTS)))
    assert set(statuses) == {200, 404}
    assert settled(own_barque, before), (before, descriptors(own_barque))
    assert unexplained(own_barque) == []


def test_requests_one_behind_the_other(barque: Stack) -> None:
    """Pipelining: the answers come in order, whatever piece the requests arrive in."""
    requests = b"".join(
        b"GET %b HTTP/1.1\r\nHost: d\r\n\r\n" % target.encode()
        for target in ("/_ping", "/nosuch", "/_ping", "/version")
    )
    source = random.Random(SEED)
    for _ in range(5):
        client = connect(barque.socket)
        at = 0
        while at < len(requests):
            size = source.randrange(1, 40)
            client.sendall(requests[at : at + size])
            at += size
        client.shutdown(1)
        data = b""
        while piece := client.recv(65536):
            data += piece
        client.close()
        lines = [part.split(b"\r\n")[0] for part in data.split(b"HTTP/1.1 ")[1:]]
        assert lines == [b"200 OK", b"404 Not Found", b"200 OK", b"200 OK"]


def test_a_request_cut_at_every_byte(barque: Stack) -> None:
    """A client that goes: nothing of its half request is done, and nothing stays open."""
    body = json.dumps({"Image": "busybox", "Cmd": ["true"]}).encode()
    head = (
        "POST /containers/create?name=cut HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    )
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    before = descriptors(barque)
    for size in range(len(whole)):
        client = connect(barque.socket)
        client.sendall(whole[:size])
        client.close()
    assert settled(barque, before)
    assert ask(barque.socket, "GET", "/containers/cut/json").status == 404
    assert unexplained(barque) == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * (70 << 10) + b"\r\n\r\n", b"400"),
        (b"GET /" + b"a" * (70 << 10) + b" HTTP/1.1\r\nHost: d\r\n\r\n", b"400"),
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\n" + b"A: b\r\n" * 12000 + b"\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /_ping HTTP/9.9\r\n\r\n", b"400"),
        (b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         b"400"),
    ],
)  # fmt: skip
def test_malformed_requests_are_refused(barque: Stack, raw: bytes, status: bytes) -> None:
    client = connect(barque.socket)
    try:
        client.sendall(raw)
    except BrokenPipeError:
        pass
    answer = client.recv(65536)
    client.close()
    assert answer.split(b" ")[1] == status
    assert ask(barque.socket, "GET", "/_ping").body == b"OK"


def test_a_body_that_is_too_large(barque: Stack) -> None:
    def body() -> Any:
        for _ in range(40):
            yield b" " * (1 << 20)

    try:
        answer = ask(barque.socket, "POST", "/containers/create", body())
        assert answer.status == 400
    except BrokenPipeError:
        pass  # it was refused, and not read to its end
    assert ask(barque.socket, "GET", "/_ping").body == b"OK"


WAYS = (
    ("POST", "/start"),
    ("POST", "/stop?t=0"),
    ("POST", "/restart?t=0"),
    ("POST", "/kill"),
    ("POST", "/pause"),
    ("POST", "/unpause"),
    ("GET", "/json"),
    ("GET", "/stats?stream=0&one-shot=1"),
    ("GET", "/top"),
    ("GET", "/logs?stdout=1"),
    ("GET", "/changes"),
    ("POST", "/rename?name=race-RENAMED"),
    ("DELETE", "?force=1"),
    ("HEAD", "/archive?path=/bin"),
)


@pytest.mark.parametrize("seed", [1, 2])
def test_clients_that_race_on_one_container(own_barque: Stack, seed: int) -> None:
    """Every answer is one of the API's; no deadlock, no internal error, nothing left over."""
    document = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    odd: list[tuple[str, str, int, bytes]] = []
    stop = threading.Event()

    def racer(number: int) -> None:
        source = random.Random(f"{SEED}/{seed}/{number}")
        for _ in range(RACE_STEPS):
            if stop.is_set():
                return
            if source.random() < 0.25:
                created = ask(
                    own_barque.socket, "POST", "/containers/create?name=race", document=document
                )
                note("POST", "create", created, (201, 409))
                continue
            method, rest = source.choice(WAYS)
            name = source.choice(("race", f"race-{number % 3}"))
            target = f"/containers/{name}{rest.replace('RENAMED', str(source.randrange(3)))}"
            allowed: tuple[int, ...] = (200, 204, 304, 404, 409)
            if "rename" in rest:  # to the name that it has by now
                allowed = (*allowed, 400)
            note(method, target, ask(own_barque.socket, method, target), allowed)

    def note(method: str, target: str, answer: Answer, allowed: tuple[int, ...]) -> None:
        if answer.status not in allowed:
            odd.append((method, target, answer.status, answer.body[:300]))

    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(racer, range(RACERS)))
    assert odd == []
    for container in ask(own_barque.socket, "GET", "/containers/json?all=1").json():
        gone = ask(own_barque.socket, "DELETE", f"/containers/{container['Id']}?force=1")
        assert gone.status in (204, 404)
    assert ask(own_barque.socket, "GET", "/containers/json?all=1").json() == []
    assert unexplained(own_barque) == []


def test_slow_and_vanishing_readers(barque: Stack) -> None:
    """Clients that ask for much and read nothing hold nobody up, and are forgotten when they go."""
    barque.docker("run", "-d", "--name", "loud", "--network", "none", "busybox", "yes", "x" * 200)
    try:
        before = descriptors(barque)
        clients = []
        for target in (
            "/containers/loud/logs?stdout=1&follow=1",
            "/events",
            "/containers/loud/stats",
        ):
            for _ in range(10):
                client = connect(barque.socket)
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
                clients.append(client)
        for _ in range(20):
            assert ask(barque.socket, "GET", "/_ping").body == b"OK"
        for client in clients:
            client.close()
        assert settled(barque, before)
    finally:
        barque.docker("rm", "-f", "loud")
