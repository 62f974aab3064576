"""A daemon that only writes down what clients ask: for comparing the requests of two clients.

It answers `/_ping`, and any POST with 201 and an id; it keeps every request with its JSON body.
"""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

API_VERSION = "1.50"


class Recorder:
    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.requests: list[tuple[str, str, Any]] = []  # method, path with query, body

    def take(self) -> list[tuple[str, str, Any]]:
        """What was asked since the last call."""
        taken, self.requests = self.requests, []
        return taken


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    recorder: Recorder


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, document: object) -> None:
        raw = b"OK" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Api-Version", API_VERSION)
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def do_HEAD(self) -> None:
        self._answer(200, None)

    def do_GET(self) -> None:
        self._answer(200, None if self.path.endswith("/_ping") else {"message": "not kept"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        self.server.recorder.requests.append((self.command, self.path, body))
        self._answer(201, {"Id": "f" * 64, "Warnings": []})


@contextmanager
def recording_daemon(path: Path) -> Iterator[Recorder]:
    """Listen on the unix socket `path` while the block runs."""
    with _Server(str(path), _Handler) as server:
        server.recorder = Recorder(path)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.recorder
        finally:
            server.shutdown()
            thread.join()
            path.unlink()
