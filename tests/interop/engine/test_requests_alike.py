"""Requests that clients make in their own ways: the same answers as from dockerd."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from barque.daemon.http import json_words
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def running(engine: Any) -> Iterator[str]:
    name = f"q{secrets.token_hex(4)}"
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "600")
    yield name
    engine.docker("rm", "-f", name)


def described(engine: Any, name: str) -> Any:
    return ask(engine.socket, "GET", f"/v1.41/containers/{name}/json").json()


@pytest.mark.parametrize(
    ("target", "document"),
    [
        ("/containers/create?name={name}", {"Image": "busybox"}),
        ("/containers/{running}/exec", {"Cmd": ["true"]}),
        ("/commit?container={running}", {"Labels": {"a": "b"}}),
        ("/volumes/create", {"Name": "{name}"}),
        ("/networks/create", {"Name": "{name}"}),
    ],
)
@pytest.mark.parametrize(
    "kind", ["", "application/xml", "text/plain", "application/x-www-form-urlencoded", ";"]
)
def test_a_body_is_to_be_called_json(
    engine: Any, running: str, target: str, document: dict[str, Any], kind: str
) -> None:
    """A page of the web can send the others to any address, without being asked for more."""
    name = f"q{secrets.token_hex(4)}"
    body = json.dumps(document).replace("{name}", name).encode()
    headers = {"Content-Type": kind} if kind else {}
    where = f"/v1.41{target.format(name=name, running=running)}"
    answer = ask(engine.socket, "POST", where, body, headers=headers)
    assert answer.status == 400
    assert "Content-Type" in answer.message
    assert engine.docker("inspect", name, check=False).returncode == 1


MALFORMED = (
    b"hello",
    b"{",
    b'{"a"',
    b'{"a":1,',
    b'{"Image":"x',
    b'{"a":1,}',
    b"{a:1}",
    b'{"a" 1}',
    b'{"a":1 "b"}',
    b"[1 2]",
    b"[1,]",
    b'{"a":tru}',
    b'{"a":nulx}',
    b'{"a":"a\nb"}',
    b'{"a":"\x01"}',
    b'{"a":"a\\x"}',
    b'{"a":"\\u12g"}',
    b'{"a":-}',
    b'{"a":1.}',
    b'{"a":1ex}',
    b'{"a":01}',
    b"}",
    b"'a'",
    b"\x01",
    b"\xc3\xa9",
    b"\x85",
)


def test_what_is_wrong_with_a_body_is_said_as_dockerd_says_it(engine: Any) -> None:
    """In the decoder's words; later versions say whose they are before."""
    found = {}
    for body in MALFORMED:
        headers = {"Content-Type": "application/json"}
        where = "/v1.41/containers/create"
        answer = ask(engine.socket, "POST", where, body, headers=headers)
        assert answer.status in (400, 500)  # older versions took it for their own failure
        found[body] = answer.message.removeprefix("invalid JSON: ")
    assert found == {body: json_words.fault(body) for body in MALFORMED}


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_body_that_is_called_json_is_taken(engine: Any, running: str, kind: str) -> None:
    where = f"/v1.41/containers/{running}/exec"
    headers = {"Content-Type": kind}
    assert ask(engine.socket, "POST", where, b'{"Cmd": ["true"]}', headers=headers).status == 201


def test_a_link_is_told_as_docker_tells_it(engine: Any, running: str) -> None:
    name = f"q{secrets.token_hex(4)}"
    engine.docker(
        *("run", "-d", "--name", name, "--link", f"{running}:db", "--link", running),
        *("busybox", "sleep", "600"),
    )
    try:
        links = described(engine, name)["HostConfig"]["Links"]
        assert sorted(links) == sorted([f"/{running}:/{name}/db", f"/{running}:/{name}/{running}"])
    finally:
        engine.docker("rm", "-f", name)


@pytest.mark.parametrize("command", ["true", "/no/such/command"])
def test_an_exec_that_has_ended_is_none_of_its_containers(
    engine: Any, running: str, command: str
) -> None:
    made = ask(
        engine.socket, "POST", f"/v1.41/containers/{running}/exec", document={"Cmd": [command]}
    ).json()["Id"]
    assert described(engine, running)["ExecIDs"] == [made]
    ask(engine.socket, "POST", f"/v1.41/exec/{made}/start", document={"Detach": False})
    while ask(engine.socket, "GET", f"/v1.41/exec/{made}/json").json()["Running"]:
        pass
    assert described(engine, running)["ExecIDs"] is None
    assert ask(engine.socket, "GET", f"/v1.41/exec/{made}/json").json()["ExitCode"] is not None


def test_what_docker_has_given_up_is_no_page(engine: Any, running: str) -> None:
    where = f"/v1.41/containers/{running}/copy"
    assert ask(engine.socket, "POST", where, document={"Resource": "/etc"}).status == 404


def test_options_of_anything_are_answered(engine: Any) -> None:
    answer = ask(engine.socket, "OPTIONS", "/v1.41/containers/json")
    assert (answer.status, answer.body) == (200, b"")
