"""Pulling from Debian's docker-registry, beside the real docker CLI on the same dockerd."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.interop.cli.conftest import BARQUE, Commands
from tests.support.docker_peer import Peer, busybox_tar

pytestmark = [pytest.mark.peer, pytest.mark.root]

ADDRESS = "127.0.0.1:5000"
IMAGE = f"{ADDRESS}/busy/box"


@pytest.fixture(scope="module")
def registry(peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """docker-registry where the daemon lives, with one image of one layer."""
    root = tmp_path_factory.mktemp("registry")
    config = root / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '{ADDRESS}'}}\n"
    )
    serve = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{peer.netns}", "docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        settings = ("-c", "ENV PATH=/bin")
        peer.docker("import", *settings, "-", f"{IMAGE}:latest", stdin=_layer())
        for _ in range(50):
            if peer.docker("push", f"{IMAGE}:latest", check=False).returncode == 0:
                break
        peer.docker("rmi", f"{IMAGE}:latest")
        yield
    finally:
        serve.terminate()
        serve.wait(30)


def _layer() -> bytes:
    """busybox with 3 MB beside it, so that the layer is no other image's."""
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        entry = tarfile.TarInfo("ballast")
        entry.size = 3 << 20
        archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _clean(registry: None, commands: Commands) -> Iterator[None]:
    """Nothing of the image is in the daemon, not even under another name."""
    yield
    commands.theirs("rmi", "-f", IMAGE)


def lines_told(out: bytes) -> list[bytes]:
    """In some order; a layer that came at once is not told to be verified."""
    return sorted(line for line in out.splitlines() if not line.endswith(b"Verifying Checksum"))


def test_what_a_pipe_gets(commands: Commands) -> None:
    for words in (("pull", IMAGE), ("pull", f"{IMAGE}:latest"), ("pull", "-q", IMAGE)):
        ours = commands.ours(*words)
        commands.theirs("rmi", IMAGE)
        theirs = commands.theirs(*words)
        commands.theirs("rmi", IMAGE)
        assert lines_told(ours[1]) == lines_told(theirs[1])
        assert (ours[0], ours[2]) == (theirs[0], theirs[2])


def test_what_is_not_there(commands: Commands) -> None:
    commands.same("pull", f"{ADDRESS}/no/such")
    commands.same("pull", f"{IMAGE}:nothing")
    commands.same("run", "--rm", f"{IMAGE}:nothing")


def test_a_missing_image_is_pulled_by_run(commands: Commands) -> None:
    code, out, err = commands.ours("run", "--rm", IMAGE, "echo", "hi")
    assert (code, out) == (0, b"hi\n")
    lines = err.decode().splitlines()
    assert lines[0] == f"Unable to find image '{IMAGE}:latest' locally"
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", lines[-2])
    assert lines[-1] == f"Status: Downloaded newer image for {IMAGE}:latest"
    assert commands.ours("run", "--rm", "-q", "--pull", "always", IMAGE, "true") == (0, b"", b"")


def test_run_asks_the_registry_for_another_platform(commands: Commands) -> None:
    commands.theirs("pull", IMAGE)
    code, _, err = commands.same("run", "--rm", "--platform", "linux/arm64", IMAGE, "true")
    assert code == 125
    assert err.decode().splitlines()[0] == f"Unable to find image '{IMAGE}:latest' locally"


def screen(output: bytes) -> list[str]:
    """What a terminal shows at the end: lines overwritten, cursor moved, as the output says."""
    lines, row = [""], 0
    for part in re.findall(rb"\x1b\[(\d*)([A-Z])|(\r?\n)|(\r)|([^\x1b\r\n]+)", output):
        count, code, newline, back, text = part
        if code == b"A":
            row = max(0, row - int(count or 1))
        elif code == b"B":
            row += int(count or 1)
        elif code == b"K":
            lines[row] = ""
        elif newline:
            row += 1
        elif text and not back:
            lines[row] = text.decode()
        while len(lines) <= row:
            lines.append("")
    return [line.rstrip() for line in lines if line.strip()]


def test_what_a_terminal_shows_at_the_end(commands: Commands) -> None:
    shown = []
    for program in (BARQUE, commands.docker):
        child = pexpect.spawn(
            program[0],
            [*program[1:], "pull", IMAGE],
            env={**os.environ, **commands.environment},
            dimensions=(40, 160),
            timeout=60,
        )
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert b"\x1b[" in child.before
        shown.append(screen(child.before))
        commands.theirs("rmi", IMAGE)
    assert shown[0] == shown[1]


def test_credentials_are_sent(commands: Commands, tmp_path: Path) -> None:
    """A registry without users does not mind them; neither does a helper that is not there."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {ADDRESS: {"auth": "dXNlcjpwYXNz"}}}))
    assert commands.ours("pull", "-q", IMAGE)[0] == 0
    config.write_text('{"credsStore": "secretservice"}')
    for run in (commands.ours, commands.theirs):
        code, _, err = run("pull", "-q", IMAGE)
        assert (code, err) == (0, b"")
