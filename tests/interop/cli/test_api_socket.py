"""`--use-api-socket`: our command and docker's give a container the same of the engine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.cli.conftest import Commands
from tests.support.docker_peer import Peer

pytestmark = [pytest.mark.root, pytest.mark.peer]
AUTHS = {"auths": {"one.example": {"auth": "bWU6c2VjcmV0"}}}
HELPER = """#!/bin/sh
case $1 in
list) echo '{"kept.example": "me"}' ;;
get) echo '{"ServerURL": "kept.example", "Username": "me", "Secret": "hidden"}' ;;
esac
"""


@pytest.fixture(params=["ours", "theirs"])
def run(request: pytest.FixtureRequest, commands: Commands) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(commands, request.param)
    return found


def told(peer: Peer, container: str) -> tuple[Any, Any, Any]:
    """Its mounts, its variables, and the mode and content of its client's settings."""
    (found,) = json.loads(peer.docker("inspect", container).stdout)
    mounts = [(m["Source"], m["Destination"], m["RW"]) for m in found["Mounts"]]
    copied = peer.docker("cp", f"{container}:/run/secrets/docker/config.json", "-", check=False)
    settings = None
    if copied.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
            (entry,) = archive
            content = archive.extractfile(entry)
            assert content is not None
            settings = (oct(entry.mode & 0o7777), entry.uid, json.load(content))
    return mounts, [v for v in found["Config"]["Env"] if "DOCKER" in v], settings


def test_the_socket_and_the_credentials(
    run: Callable[..., Any], name: str, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(AUTHS))
    assert run("create", "--use-api-socket", "--name", name, "busybox")[0] == 0
    mounts, variables, settings = told(peer, name)
    assert mounts == [(str(peer.socket), "/var/run/docker.sock", True)]
    assert variables == ["DOCKER_CONFIG=/run/secrets/docker"]
    assert settings == ("0o600", 0, AUTHS)


@pytest.mark.parametrize("flags", [(), ("-e", "DOCKER_CONFIG=/mine")])
def test_without_credentials(
    run: Callable[..., Any], name: str, peer: Peer, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    if flags:
        (tmp_path / "config.json").write_text(json.dumps(AUTHS))
    assert run("create", "--use-api-socket", *flags, "--name", name, "busybox")[0] == 0
    mounts, variables, settings = told(peer, name)
    assert [place for _, place, _ in mounts] == ["/var/run/docker.sock"]
    assert variables == list(flags[1:])
    assert settings is None


def test_credentials_that_a_helper_keeps(
    run: Callable[..., Any], commands: Commands, name: str, peer: Peer, tmp_path: Path
) -> None:
    helper = tmp_path / "docker-credential-kept"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    commands.environment["PATH"] = f"{tmp_path}:{commands.environment['PATH']}"
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "kept"}))
    assert run("create", "--use-api-socket", "--name", name, "busybox")[0] == 0
    _, _, settings = told(peer, name)
    assert settings == ("0o600", 0, {"auths": {"kept.example": {"auth": "bWU6aGlkZGVu"}}})


def test_only_with_a_unix_socket(commands: Commands) -> None:
    words = ("-H", "tcp://127.0.0.1:1", "create", "--use-api-socket", "busybox")
    code, _, error = commands.ours(*words)
    assert code == 1
    assert b"can only be used with unix sockets: docker endpoint tcp://127.0.0.1:1" in error
