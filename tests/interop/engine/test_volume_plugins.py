"""Volumes of a plugin as users meet them; Debian's dockerd does the same with the same plugin."""

from __future__ import annotations

import http.server
import json
import secrets
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out

pytestmark = [pytest.mark.root, pytest.mark.peer]
SOCKETS = Path("/run/docker/plugins")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    keeper: Keeper


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        answer = self.server.keeper.answer(self.path.strip("/"), body)
        text = json.dumps(answer).encode()
        self.send_response(500 if answer.get("Err") else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return


class Keeper:
    """A plugin whose volumes are directories; it forgets nothing when it is started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"keeper{secrets.token_hex(4)}"
        self.options: dict[str, dict[str, str]] = {}
        self.users: dict[str, list[str]] = {}
        self.keeps = False  # whatever is said
        self._server: _Server | None = None

    def start(self) -> None:
        SOCKETS.mkdir(parents=True, exist_ok=True)
        self._server = _Server(str(SOCKETS / f"{self.name}.sock"), _Handler)
        self._server.keeper = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        (SOCKETS / f"{self.name}.sock").unlink(missing_ok=True)

    def document(self, volume: str) -> dict[str, Any]:
        point = str(self.root / volume) if self.users[volume] else ""
        return {"Name": volume, "Mountpoint": point, "Status": {"users": len(self.users[volume])}}

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        volume = body.get("Name", "")
        if method == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if method == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if method == "VolumeDriver.List":  # of every dockerd of this machine: not their matter
            return {"Volumes": []}
        if method == "VolumeDriver.Create":
            options = body.get("Opts") or {}
            if options.get("colour") == "none":
                return {"Err": "a colour is wanted"}
            self.options[volume], self.users[volume] = options, []
            (self.root / volume).mkdir(exist_ok=True)
            return {"Err": ""}
        if volume not in self.options:
            return {"Err": f"no volume {volume}"}
        return self._of(method, volume, body)

    def _of(self, method: str, volume: str, body: dict[str, Any]) -> dict[str, Any]:
        point = str(self.root / volume)
        if method == "VolumeDriver.Mount":
            self.users[volume].append(body["ID"])
            return {"Mountpoint": point}
        if method == "VolumeDriver.Unmount":
            self.users[volume].remove(body["ID"])
            return {"Err": ""}
        if method == "VolumeDriver.Remove" and self.keeps:
            return {"Err": f"{volume} is dear"}
        if method == "VolumeDriver.Remove":
            del self.options[volume], self.users[volume]
            return {"Err": ""}
        if method == "VolumeDriver.Get":
            return {"Volume": self.document(volume)}
        return {"Mountpoint": point}


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    """One for all: dockerd tries for long to reach those that it knows and that are away."""
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    made = Keeper(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root)


def name() -> str:
    return f"v{secrets.token_hex(4)}"


def test_a_volume_of_a_plugin_from_create_to_rm(engine: Any, keeper: Keeper) -> None:
    volume, container = name(), name()
    out(engine, "volume", "create", "-d", keeper.name, "-o", "colour=red", volume)
    assert keeper.options[volume] == {"colour": "red"}
    found = json.loads(out(engine, "volume", "inspect", volume))[0]
    assert (found["Driver"], found["Scope"], found["Status"]) == (
        keeper.name,
        "global",
        {"users": 0},
    )
    run = ("run", "-d", "--name", container, "-v", f"{volume}:/data", "busybox")
    out(engine, *run, "sh", "-c", "echo kept > /data/file; exec sleep 600")
    try:
        assert len(keeper.users[volume]) == 1
        again = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "cat", "/data/file")
        assert out(engine, *again) == "kept"
        assert "volume is in use" in fails(engine, "volume", "rm", volume)
    finally:
        out(engine, "rm", "-f", container)
    assert keeper.users[volume] == []
    assert (keeper.root / volume / "file").read_text() == "kept\n"
    out(engine, "volume", "rm", volume)
    assert volume not in keeper.options


def test_a_plugin_that_is_started_again_meanwhile(engine: Any, keeper: Keeper) -> None:
    volume, container = name(), name()
    mount = f"type=volume,src={volume},dst=/data,volume-driver={keeper.name}"
    run = ("run", "-d", "--name", container, "--mount", mount, "busybox", "sleep", "600")
    out(engine, *run)
    keeper.stop()
    if isinstance(engine, Stack):  # dockerd waits for it, and then leaves the volume out
        assert volume in out(engine, "volume", "ls", "-q")
    assert out(engine, "exec", container, "ls", "/data") == ""
    keeper.start()
    out(engine, "rm", "-f", container)
    assert keeper.users[volume] == []
    out(engine, "volume", "rm", volume)


def test_what_a_plugin_refuses(engine: Any, keeper: Keeper) -> None:
    volume = name()
    said = fails(engine, "volume", "create", "-d", keeper.name, "-o", "colour=none", volume)
    assert "a colour is wanted" in said
    assert volume not in out(engine, "volume", "ls", "-q")
    out(engine, "volume", "create", "-d", keeper.name, volume)
    keeper.keeps = True
    assert "is dear" in fails(engine, "volume", "rm", volume)
    assert volume in out(engine, "volume", "inspect", volume)
    assert "is dear" in fails(engine, "volume", "rm", "-f", volume)  # and yet it is forgotten
    keeper.keeps = False
    keeper.answer("VolumeDriver.Remove", {"Name": volume})
    assert volume not in out(engine, "volume", "ls", "-q")
