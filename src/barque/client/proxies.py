"""The proxy on the way to a daemon: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, as Docker's client has them.

Imported only where one of them is set. Plain requests are sent to the proxy whole; what is
encrypted, or becomes a raw stream, goes through a tunnel. Source: RFC 9110, CONNECT.
"""

from __future__ import annotations

from posix import environ

from barque import errors
from barque.client import http
from barque.proxied import is_direct, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.client.connection import Stream

ANSWER_BYTES = 16 << 10


class Proxy:
    """`address` is its own, `authorization` the header for it, "" for none."""

    __slots__ = ("address", "authorization")

    def __init__(self, address: tuple[str, int], authorization: str) -> None:
        self.address, self.authorization = address, authorization

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Proxy-Authorization", self.authorization)] if self.authorization else []

    def tunnel(self, raw: Stream, address: tuple[str, int]) -> None:
        """Make of a connection to the proxy one to `address`. Raises Unavailable."""
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        target = f"{name}:{address[1]}"
        raw.sendall(http.request_head("CONNECT", target, target, self.headers))
        head = b""
        while b"\r\n\r\n" not in head:
            part = raw.recv(1)  # what comes behind it is the daemon's
            if not part or len(head) > ANSWER_BYTES:
                raise errors.Unavailable(f"proxy {self.address[0]}: no answer to CONNECT {target}")
            head += part
        line = head.partition(b"\r\n")[0].decode("utf-8", "replace")
        if line.split(" ")[1:2] != ["200"]:
            raise errors.Unavailable(f"proxy {self.address[0]}: CONNECT {target}: {line}")


def of(address: tuple[str, int], *, encrypted: bool) -> Proxy | None:
    """The proxy for a daemon at `address`. Raises InvalidArgument for one that is none."""
    text = _variable("HTTPS_PROXY" if encrypted else "HTTP_PROXY")
    if not text or is_direct(address[0].lower(), address[1], _variable("NO_PROXY")):
        return None
    host, port, authorization = parse(text)
    return Proxy((host, port), authorization)


def _variable(name: str) -> str:
    value = environ.get(name.encode()) or environ.get(name.lower().encode(), b"")
    return value.decode("utf-8", "replace")
