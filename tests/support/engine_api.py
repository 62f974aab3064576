"""The Engine API as bytes: one request on a connection of its own, nothing hidden."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_S = 60.0


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["message"])


def connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(LIMIT_S)
    made.connect(str(path))
    return made


def ask(
    path: Path,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] | None = None,
    *,
    document: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request to the daemon that listens on the socket `path`; `document` is sent as JSON."""
    fields = dict(headers or {})
    if document is not None:
        body, fields["Content-Type"] = json.dumps(document).encode(), "application/json"
    connection = http.client.HTTPConnection("docker", timeout=LIMIT_S)
    connection.sock = connect(path)
    try:
        connection.request(method, target, body, fields, encode_chunked=True)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def first_line(path: Path, target: str) -> bytes:
    """Of an answer that goes on."""
    connection = http.client.HTTPConnection("docker", timeout=LIMIT_S)
    connection.sock = connect(path)
    try:
        connection.request("GET", target)
        return connection.getresponse().readline()
    finally:
        connection.close()
