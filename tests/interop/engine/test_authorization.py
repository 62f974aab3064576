"""Authorization plugins, asked by our engine and by Debian's. Source: Docker, "Access authorization
plugin": of a request before it is served, and of its answer before it is sent."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
Guarded = tuple["Plugin", str, Stack | Peer]


class Plugin:
    """An authorization plugin that writes down what it is asked, and denies what it is told to."""

    def __init__(self, name: str, scheme: str = "") -> None:
        """On a socket of its name, or on an address that a file in /etc has, with `scheme`."""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.denied = self.failing = ""
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = json.dumps(plugin.answer(self.path, body)).encode()
                self.send_response(500 if plugin.failing and plugin.failing in self.path else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True

        class OnAddress(ThreadingMixIn, TCPServer):
            daemon_threads = True

        self.path = Path("/run/docker/plugins") / f"{name}.sock"
        if scheme:
            self.path = Path("/etc/docker/plugins") / f"{name}.spec"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.server: OnAddress | Server
        if scheme:
            self.server = OnAddress(("127.0.0.1", 0), Handler)
            self.path.write_text(f"{scheme}://127.0.0.1:{self.server.server_address[1]}\n")
        else:
            self.server = Server(str(self.path), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/Plugin.Activate":
            return {"Implements": ["authz"]}
        asked = json.loads(body)
        self.asked.append((path, asked))
        if self.failing and self.failing in path:
            return {"Err": "it broke"}
        told = self.denied and self.denied in asked["RequestUri"] + path
        return {"Allow": not told, "Msg": "not today" if told else ""}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink(missing_ok=True)


@contextmanager
def plugin(name: str, scheme: str = "") -> Iterator[Plugin]:
    made = Plugin(name, scheme)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["ours", "ours by tcp", "ours by http", "docker"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """dockerd by a socket alone: it is in a network namespace of its own."""
    name = f"bq{os.urandom(4).hex()}"
    flags = ["--authorization-plugin", name]
    with plugin(name, request.param.partition(" by ")[2]) as guard:
        if request.param == "docker":
            with docker_peer(flags) as peer:
                yield guard, name, peer
                return
        with stack(*flags) as barque:
            yield guard, name, barque
            barque.kill("barqued")  # so that the stack can be taken down without the plugin
            barque.flags = ()


def test_a_plugin_sees_and_denies(guarded: Guarded) -> None:
    guard, name, engine = guarded
    guard.asked.clear()
    body = {"Image": "busybox", "Cmd": ["true"]}
    made = ask(engine.socket, "POST", "/containers/create?name=seen", document=body)
    assert made.status == 201
    (path, asked), (after, answered) = guard.asked
    assert (path, after) == ("/AuthZPlugin.AuthZReq", "/AuthZPlugin.AuthZRes")
    assert asked["RequestMethod"] == "POST"
    assert asked["RequestUri"] == "/containers/create?name=seen"
    assert json.loads(base64.b64decode(asked["RequestBody"])) == body
    assert answered["ResponseStatusCode"] == 201
    assert "Id" in json.loads(base64.b64decode(answered["ResponseBody"]))
    guard.denied = "/containers/create"
    denied = ask(engine.socket, "POST", "/containers/create?name=unseen", document=body)
    assert (denied.status, denied.message) == (
        403,
        f"authorization denied by plugin {name}: not today",
    )
    assert ask(engine.socket, "GET", "/containers/unseen/json").status == 404
    guard.denied = "AuthZRes"
    assert ask(engine.socket, "GET", "/info").status == 403


@pytest.mark.parametrize("guarded", ["ours"], indirect=True)
def test_what_a_plugin_cannot_be_shown_does_not_pass(guarded: Guarded) -> None:
    """CVE-2024-41110, and a plugin that is gone."""
    guard, _, engine = guarded
    large = {"Image": "busybox", "Labels": {"x": "y" * (2 << 20)}}
    refused = ask(engine.socket, "POST", "/containers/create?name=large", document=large)
    assert refused.status == 403
    assert ask(engine.socket, "GET", "/containers/large/json").status == 404
    guard.close()
    assert ask(engine.socket, "GET", "/info").status in (403, 404)


@pytest.mark.parametrize("when", ["AuthZReq", "AuthZRes"])
@pytest.mark.parametrize("guarded", ["ours", "docker"], indirect=True)
def test_a_plugin_that_fails(guarded: Guarded, when: str) -> None:
    guard, name, engine = guarded
    guard.failing = when
    answer = ask(engine.socket, "GET", "/info")
    guard.failing = ""
    assert answer.status == 500
    assert answer.message == f"plugin {name} failed with error: AuthZPlugin.{when}: it broke"
