"""Each field of a new container, sent to our daemon and to the real one: told or refused alike.

`create_fields.json` has what is added to a request: what both take, and what both refuse. Where we
are stricter than this old dockerd (newer ones are too), the unit tests have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
CASES = json.loads(Path(__file__).with_name("create_fields.json").read_text())
CLIENTS = 8
VERSION = "/v1.41"
ID_DIGITS = 64


class Answer(NamedTuple):
    status: int
    said: Any  # the message, or the warnings
    told: dict[str, Any]  # of inspect


def create(daemon: Stack | Peer, fields: dict[str, Any]) -> Answer:
    body = {"Image": "busybox", "Cmd": ["true"], **fields}
    made = ask(daemon.socket, "POST", f"{VERSION}/containers/create", document=body)
    answer = made.json()
    if made.status != 201:
        return Answer(made.status, answer["message"], {})
    target = f"{VERSION}/containers/{answer['Id']}"
    found = ask(daemon.socket, "GET", f"{target}/json").json()
    assert ask(daemon.socket, "DELETE", f"{target}?v=1&force=1").status == 204
    return Answer(201, answer["Warnings"], comparable(found))


def comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Without what each daemon has of its own, and with one word for each kind of nothing."""
    config, host = found["Config"], found["HostConfig"]
    if config["Hostname"] == found["Id"][:12]:
        config["Hostname"] = "of its id"
    for name in ("Runtime", "MaskedPaths", "KernelMemory", "KernelMemoryTCP"):
        host.pop(name, None)
    host["OomKillDisable"] = host["OomKillDisable"] or None
    if host["NetworkMode"] == "default":  # by its own name since API 1.44
        host["NetworkMode"] = "bridge"
    host["RestartPolicy"]["Name"] = host["RestartPolicy"]["Name"] or "no"
    for mount in found["Mounts"]:
        if mount["Type"] == "volume":
            mount["Source"] = ""
            if len(mount["Name"]) == ID_DIGITS:
                mount["Name"] = "anonymous"
    plain = {name: value for name, value in host.items() if value not in (None, [], {})}
    kept = ("Path", "Args", "Platform", "State", "Mounts")
    return {"HostConfig": plain, "Config": config, **{name: found[name] for name in kept}}


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, tuple[Answer, Answer]]]:
    """All at once: most of the time the peer waits for its disk."""
    cases = [*CASES["accepted"], *CASES["refused"]]
    with stack() as barque, docker_peer() as peer, ThreadPoolExecutor(CLIENTS) as pool:
        pairs = pool.map(lambda case: (create(barque, case), create(peer, case)), cases)
        yield {json.dumps(case): pair for case, pair in zip(cases, pairs, strict=True)}


@pytest.mark.parametrize("case", [json.dumps(case) for case in CASES["accepted"]])
def test_a_field_is_told_alike(answers: dict[str, tuple[Answer, Answer]], case: str) -> None:
    ours, theirs = answers[case]
    assert (ours.status, theirs.status) == (201, 201)
    assert ours == theirs


@pytest.mark.parametrize("case", [json.dumps(case) for case in CASES["refused"]])
def test_a_field_is_refused_alike(answers: dict[str, tuple[Answer, Answer]], case: str) -> None:
    """In the same words; dockerd of that age says 500 of much that is the client's fault."""
    ours, theirs = answers[case]
    assert 400 <= ours.status < 500 <= theirs.status or ours.status == theirs.status
    assert ours.said == theirs.said
