"""Wrong bodies and queries at every endpoint: the fault of a client is 4xx, never our own."""

import json
import random
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from barque.daemon.containers.documents import Config, ExecConfig, HostConfig, docker_name
from tests.support.barque import Stack
from tests.support.engine_api import ask
from tools import compatibility

pytestmark = [pytest.mark.root]
SEED = 20261121
WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 63, -(1 << 70), 1.5, "", "x", "\0", "\ud800", "a" * 5000, [], {}),
    *([None], [[]], [1], ["x"], {"": None}, {"x": {}}, {"x": [None]}, [{"x": 1}], [{}]),
)
BODIES = (
    *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"{}{}", b'{"a":1,}', b"[" * 5000),
    *(b'{"Image":{}}', b'{"Image":["busybox"],"HostConfig":[]}', b'{"HostConfig":null}'),
)
QUERIES = (
    *("filters={", "filters=[]", "filters=1", 'filters={"label":1}', 'filters={"x":["y"]}'),
    *("filters={%22label%22:{%22a%22:%22b%22}}", "limit=x", "all=maybe", "t=x", "h=-1&w=99999999"),
    *("tail=-5&stdout=1", "since=never&stdout=1", "path=%00", "path=" + "a" * 5000, "signal=NOPE"),
    *("condition=x", "name=%2F..", "until=x", "type=x", "platform=%00", "ps_args=;id", "size=x"),
)


# They speak to registries of the world.
OUTWARD = ("/distribution/{name}/json", "/images/create", "/images/search", "/auth")


def internal_errors(barque: Stack) -> int:
    return barque.log.read_text().count("Traceback")


def operations() -> list[tuple[str, str]]:
    """What is there, with names in the place of parameters; swarm's answer is one for all."""
    found = []
    for method, path, _, state in compatibility.operations():
        if state != compatibility.YES or path in OUTWARD:
            continue
        if path.startswith("/containers/"):
            path = path.replace("{id}", "target")
        found.append((method, path.replace("{id}", "nosuch").replace("{name}", "nosuch")))
    return found


@pytest.fixture(scope="module")
def targeted(barque: Stack) -> Stack:
    revive(barque)
    return barque


def answered(barque: Stack, method: str, target: str, body: bytes | None) -> None:
    """Whatever it answers is no bug of the daemon's. It may answer before it has the body."""
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer = ask(barque.socket, method, target, body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        return
    # 500: the failure of what was rightly asked for, as pulling from nowhere
    assert answer.status < 500 or "internal error" not in answer.message, (target, body, answer)


def revive(barque: Stack) -> None:
    """The container that wrong requests are about: some of them remove or rename it rightly."""
    for other in ask(barque.socket, "GET", "/containers/json?all=1").json():
        if other["Names"] != ["/target"]:
            ask(barque.socket, "DELETE", f"/containers/{other['Id']}?force=1&v=1")
    document: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    document |= {"StopSignal": "SIGKILL", "HostConfig": {"NetworkMode": "none"}}
    ask(barque.socket, "POST", "/containers/create?name=target", document=document)


@pytest.mark.parametrize(
    ("method", "path"), [op for op in operations() if op[0] in {"POST", "PUT"}]
)
def test_bodies_that_are_none(targeted: Stack, method: str, path: str) -> None:
    before = internal_errors(targeted)
    revive(targeted)
    for body in BODIES:
        answered(targeted, method, path, body)
    assert internal_errors(targeted) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [op for op in operations() if op[0] != "HEAD" and op[1] != "/events" and "stats" not in op[1]],
)
def test_queries_that_are_wrong(targeted: Stack, method: str, path: str) -> None:
    before = internal_errors(targeted)
    revive(targeted)
    body = b"{}" if method in {"POST", "PUT"} else None
    for query in QUERIES:
        answered(targeted, method, f"{path}?{quote(query, safe='=&%')}", body)
    assert internal_errors(targeted) == before


def test_events_and_stats_with_wrong_queries(targeted: Stack) -> None:
    revive(targeted)
    before = internal_errors(targeted)
    for query in ("filters={", "since=x", "until=x", "filters=[]"):
        assert ask(targeted.socket, "GET", f"/events?{quote(query, safe='=')}").status == 400
    assert ask(targeted.socket, "GET", "/containers/target/stats?stream=0&one-shot=x").status == 200
    assert internal_errors(targeted) == before


def wrong_documents(source: random.Random, count: int) -> list[dict[str, Any]]:
    """Create bodies with a few fields of a wrong kind, or of a right one with odd values."""
    config = [docker_name(f.name) for f in msgspec.structs.fields(Config)]
    host = [docker_name(f.name) for f in msgspec.structs.fields(HostConfig)]
    found = []
    for _ in range(count):
        document: dict[str, Any] = {"Image": "busybox", "Cmd": ["true"]}
        document["HostConfig"] = {
            name: source.choice(WRONG) for name in source.sample(host, source.randrange(1, 3))
        }
        if source.random() < 0.5:
            document[source.choice(config)] = source.choice(WRONG)
        if source.random() < 0.2:
            document["NetworkingConfig"] = {"EndpointsConfig": source.choice(WRONG)}
        found.append(document)
    return found


def test_fields_of_wrong_kinds(targeted: Stack) -> None:
    """What is taken can be inspected, listed and removed again; the rest is the client's fault."""
    before = internal_errors(targeted)
    for document in wrong_documents(random.Random(SEED), 600):
        answer = ask(
            *(targeted.socket, "POST", "/containers/create"),
            json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status in (201, 400, 404, 409, 501), (document, answer)
        if answer.status == 201:
            made = answer.json()["Id"]
            assert ask(targeted.socket, "GET", f"/containers/{made}/json").status == 200
            assert ask(targeted.socket, "GET", "/containers/json?all=1").status == 200
            assert ask(targeted.socket, "DELETE", f"/containers/{made}?v=1").status == 204
    assert internal_errors(targeted) == before


def test_execs_and_updates_of_wrong_kinds(targeted: Stack) -> None:
    revive(targeted)
    before = internal_errors(targeted)
    ask(targeted.socket, "POST", "/containers/target/start")
    source = random.Random(SEED)
    exec_fields = [docker_name(field.name) for field in msgspec.structs.fields(ExecConfig)]
    host_fields = [docker_name(field.name) for field in msgspec.structs.fields(HostConfig)]
    for _ in range(150):
        body = {"Cmd": ["true"], source.choice(exec_fields): source.choice(WRONG)}
        answer = ask(
            *(targeted.socket, "POST", "/containers/target/exec"),
            json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status in (201, 400, 409), (body, answer)
        body = {source.choice(host_fields): source.choice(WRONG)}
        answer = ask(
            *(targeted.socket, "POST", "/containers/target/update"),
            json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status in (200, 400, 409, 501) or "internal" not in answer.message, (
            body,
            answer,
        )
    assert internal_errors(targeted) == before
    ask(targeted.socket, "DELETE", "/containers/target?force=1")
