"""A plugin of Docker's protocols as a server: JSON posted to a unix socket, in threads of ours."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    """`method` as in VolumeDriver.Create, `caller` is the process that asks."""

    method: str
    body: dict[str, Any]
    caller: int


class NoMethod(Exception):
    """What an answer raises for a method that the plugin does not have: status 404."""


Answer = Callable[[Request], dict[str, Any] | None]  # None: hangs up instead of an answer


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, answer: Answer) -> None:
        super().__init__(path, _Handler)
        self.answer = answer


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        told = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        caller: int = struct.unpack("3i", told)[0]
        try:
            answer = self.server.answer(Request(self.path.strip("/"), body, caller))
        except NoMethod:
            self.send_error(404)
            return
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        text = json.dumps(answer).encode()
        self.send_response(500 if answer.get("Err") else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(path: Path, answer: Answer) -> Iterator[None]:
    """A plugin on the socket `path`, which is gone afterwards."""
    server = _Server(str(path), answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        path.unlink(missing_ok=True)
