"""One request to a plugin: a POST of JSON over HTTP, on a socket of the host or to a port."""

from __future__ import annotations

import http.client
import socket

from barque.volume.plugin_places import Address

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


def _connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if address.scheme == "unix":
        return _UnixConnection(address.rest, timeout_s)
    if address.tls is None:
        return http.client.HTTPConnection(address.rest, timeout=timeout_s)
    context = address.tls.context()
    return http.client.HTTPSConnection(address.rest, timeout=timeout_s, context=context)


def post(address: Address, target: str, body: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError."""
    connection = _connection(address, timeout_s)
    try:
        connection.request("POST", target, body, {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
