"""Every flag of `create`: the request that we send is the one that the real docker CLI sends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.cli.conftest import Commands
from tests.support.docker_peer import real_docker_cli
from tests.support.recording_daemon import Recorder, recording_daemon

CASES = (Path(__file__).parent / "create_cases.txt").read_text().splitlines()
KEYS_COUNT = (
    "ExposedPorts",
    "Volumes",
    "EndpointsConfig",
)  # maps whose empty values mean something
UNORDERED = ("Binds", "Env")  # in no order of their own, as Docker sends them

pytestmark = pytest.mark.peer


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with recording_daemon(tmp_path / "s") as running:
        yield running


def meaning(value: Any, key: str = "") -> Any:
    """The request without what is the API's default anyway."""
    if key in UNORDERED and isinstance(value, list):
        return sorted(value)
    if isinstance(value, dict):
        inner = {name: meaning(item, name) for name, item in value.items()}
        if key in KEYS_COUNT:
            return inner
        return {name: item for name, item in inner.items() if not _is_default(name, item)}
    return [meaning(item) for item in value] if isinstance(value, list) else value


def without_the_obvious(body: dict[str, Any]) -> dict[str, Any]:
    """An endpoint that only repeats the network's name says nothing."""
    mode = body["HostConfig"]["NetworkMode"]
    if body.get("NetworkingConfig") == {"EndpointsConfig": {mode: {}}}:
        return {name: item for name, item in body.items() if name != "NetworkingConfig"}
    return body


def _is_default(name: str, value: Any) -> bool:
    if name == "MemorySwappiness" and value == -1:
        return True
    return value in (None, {}, [], "", 0) or (name == "ConsoleSize" and value == [0, 0])


@pytest.mark.parametrize("case", [line for line in CASES if line and line[0] != "#"])
def test_the_request_is_dockers(case: str, recorder: Recorder, tmp_path: Path) -> None:
    commands = Commands(recorder.host, tmp_path, real_docker_cli())
    words = ["create", *shlex.split(case)]
    done = []
    for run in (commands.ours, commands.theirs):
        code, out, err = run(*words)
        asked = [
            (method, path.split("/", 2)[2], without_the_obvious(meaning(body)))
            for method, path, body in recorder.take()
        ]
        done.append((code, out, err, asked))
    assert done[0] == done[1]


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--health-cmd", "true", "--health-on-failure", "kill", "busybox"),
        ("update", "--health-on-failure", "stop", "a"),
        ("create", "--restart", "always,delay=1s", "busybox"),
        ("update", "--restart", "on-failure:3,window=1m", "a"),
    ],
)
def test_what_another_daemon_would_ignore_is_not_sent(
    words: tuple[str, ...], recorder: Recorder, tmp_path: Path
) -> None:
    code, out, err = Commands(recorder.host, tmp_path, real_docker_cli()).ours(*words)
    assert (code != 0, out) == (True, b"")
    assert "is only there on a Barque daemon" in err.decode()
    assert not [asked for asked in recorder.take() if asked[0] == "POST"]
