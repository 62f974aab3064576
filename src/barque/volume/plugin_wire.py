"""One request to a plugin: a POST of JSON over HTTP, on a socket of the host or to a port."""

from __future__ import annotations

import http.client
import socket

SCHEMES = frozenset({"unix", "tcp", "http"})
CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
ANSWER_BYTES = 8 << 20


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("plugin", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def post(address: str, target: str, body: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer. `address`: unix://PATH or tcp://HOST:PORT. Raises OSError."""
    scheme, _, rest = address.partition("://")
    connection = (
        _UnixConnection(rest, timeout_s)
        if scheme == "unix"
        else http.client.HTTPConnection(rest.rstrip("/"), timeout=timeout_s)
    )
    try:
        connection.request("POST", target, body, {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
