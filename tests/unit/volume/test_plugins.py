"""The volume plugin protocol against a plugin that is a server of its own."""

from __future__ import annotations

import http.server
import json
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.volume import plugins


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    volumes: dict[str, dict[str, Any]]
    implements = ("VolumeDriver",)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        answer = self.perform(self.path.strip("/"), body)
        text = json.dumps(answer).encode()
        self.send_response(500 if answer.get("Err") else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def perform(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        volumes, name = self.server.volumes, body.get("Name", "")
        if method == "Plugin.Activate":
            return {"Implements": list(self.server.implements)}
        if method == "VolumeDriver.Create":
            volumes[name] = {"Opts": body["Opts"], "Users": []}
            return {"Err": ""}
        if name not in volumes:
            return {"Err": f"no volume {name}"}
        if method == "VolumeDriver.Mount":
            volumes[name]["Users"].append(body["ID"])
        if method == "VolumeDriver.Unmount":
            volumes[name]["Users"].remove(body["ID"])
        if method == "VolumeDriver.Remove":
            del volumes[name]
        if method == "VolumeDriver.Get":
            return {"Volume": {"Name": name, "Mountpoint": f"/mnt/{name}", "Status": {"n": 1}}}
        return {"Mountpoint": f"/mnt/{name}"}

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def server(directory: Path) -> Iterator[_Server]:
    made = _Server(str(directory / "keeper.sock"), _Handler)
    made.volumes = {}
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_volume_of_a_plugin(server: _Server, directory: Path) -> None:
    plugin = plugins.find("keeper", directory)
    plugin.create("vol", {"size": "1"})
    assert server.volumes["vol"]["Opts"] == {"size": "1"}
    assert plugin.mount("vol", "c1") == "/mnt/vol"
    assert server.volumes["vol"]["Users"] == ["c1"]
    assert plugin.get("vol")["Status"] == {"n": 1}
    assert plugin.path("vol") == "/mnt/vol"
    assert plugin.scope() == "local"
    plugin.unmount("vol", "c1")
    plugin.remove("vol")
    assert server.volumes == {}
    with pytest.raises(errors.BarqueError, match=r"VolumeDriver\.Mount: no volume vol"):
        plugin.mount("vol", "c1")


def test_a_plugin_found_by_a_spec_file(server: _Server, directory: Path) -> None:
    specs = directory / "specs"
    specs.mkdir()
    (specs / "other.spec").write_text(f"unix://{directory}/keeper.sock\n")
    plugins.find("other", directory / "none", [specs]).create("v", {})
    assert "v" in server.volumes


@pytest.mark.parametrize("name", ["missing", "../keeper", "", "a/b", "-x"])
def test_a_plugin_that_is_not_there(directory: Path, name: str) -> None:
    with pytest.raises(errors.NotFound, match="not found"):
        plugins.find(name, directory, [])


def test_a_plugin_of_another_kind_is_refused(server: _Server, directory: Path) -> None:
    server.implements = ("NetworkDriver",)
    with pytest.raises(errors.NotFound, match="does not implement VolumeDriver"):
        plugins.find("keeper", directory)


def test_a_plugin_that_does_not_answer(directory: Path) -> None:
    plugin = plugins.Plugin("gone", f"unix://{directory}/gone.sock")
    with pytest.raises(errors.Unavailable, match='error while calling plugin "gone"'):
        plugin.create("v", {})
