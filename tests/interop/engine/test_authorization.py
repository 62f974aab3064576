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
from tests.support.certificates import server_context
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import ask
from tools.certificates import make_certificates

pytestmark = [pytest.mark.root, pytest.mark.peer]
Guarded = tuple["Plugin", str, Stack | Peer]


class Plugin:
    """An authorization plugin that writes down what it is asked, and denies what it is told to."""

    def __init__(self, name: str, scheme: str = "", certificates: Path | None = None) -> None:
        """On a socket of its name, or on an address that a file in /etc has, with `scheme`.

        With `certificates` it wants its callers' to be of the same authority.
        """
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
            suffix = "spec" if certificates is None else "json"
            self.path = Path("/etc/docker/plugins") / f"{name}.{suffix}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.server: OnAddress | Server
        if scheme:
            self.server = OnAddress(("127.0.0.1", 0), Handler)
            address = f"{scheme}://127.0.0.1:{self.server.server_address[1]}"
            self.path.write_text(
                f"{address}\n"
                if certificates is None
                else _secured(self.server, address, certificates)
            )
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


def _secured(server: TCPServer, address: str, certificates: Path) -> str:
    """Wrap the server's socket; the file that says how to speak with it."""
    server.socket = server_context(certificates).wrap_socket(server.socket, server_side=True)
    names = {"CAFile": "ca.pem", "CertFile": "cert.pem", "KeyFile": "key.pem"}
    config = {key: str(certificates / name) for key, name in names.items()}
    return json.dumps({"Name": "guard", "Addr": address, "TLSConfig": config})


@contextmanager
def plugin(name: str, scheme: str = "", certificates: Path | None = None) -> Iterator[Plugin]:
    made = Plugin(name, scheme, certificates)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["ours", "ours by tcp", "ours by http", "ours by https", "docker"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    """dockerd by a socket alone: it is in a network namespace of its own."""
    name = f"bq{os.urandom(4).hex()}"
    flags = ["--authorization-plugin", name]
    scheme = request.param.partition(" by ")[2]
    certificates = make_certificates(tmp_path) if scheme == "https" else None
    with plugin(name, scheme, certificates) as guard:
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


def test_a_plugin_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    name = f"bq{os.urandom(4).hex()}"
    (tmp_path / "theirs").mkdir()
    theirs, ours = make_certificates(tmp_path / "theirs"), make_certificates(tmp_path)
    with plugin(name, "https", theirs) as guard, stack("--authorization-plugin", name) as barque:
        document = json.loads(guard.path.read_text())
        assert ask(barque.socket, "GET", "/info").status == 200
        document["TLSConfig"]["CAFile"] = str(ours / "ca.pem")
        guard.path.write_text(json.dumps(document))
        refused = ask(barque.socket, "GET", "/info")
        assert refused.status == 403
        assert "certificate verify failed" in (refused.message or "")
        barque.kill("barqued")
        barque.flags = ()
