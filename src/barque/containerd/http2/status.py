"""gRPC's status codes, and how a call's end is told in headers. Source: gRPC, "Status codes" and
"gRPC over HTTP/2"."""

from __future__ import annotations

from enum import IntEnum
from urllib.parse import unquote

from barque.containerd.http2.headers import STATUS_200, Headers, literal

CONTENT_TYPE = "application/grpc"
ANSWER = STATUS_200 + literal("content-type", CONTENT_TYPE)
LONGEST_TEXT = 8 << 10  # bytes of a failure's text in a header


class Status(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refused(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


FINE = literal("grpc-status", "0")


def trailers(status: Status, text: str) -> bytes:
    """The header block that ends a call."""
    block = literal("grpc-status", str(int(status)))
    return block + literal("grpc-message", _escaped(text)) if text else block


def _escaped(text: str) -> str:
    """Percent-encoded where gRPC wants it: all but printable ASCII, and the percent sign."""
    raw = text.encode("utf-8", "replace")[:LONGEST_TEXT]
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in raw
    )


def check(headers: Headers, told: Headers | None) -> None:
    """Raises Refused for a call that did not end well."""
    if headers.get(":status", "200") != "200":
        raise Refused(Status.UNKNOWN, f"HTTP status {headers[':status']}")
    code = (told or {}).get("grpc-status")
    if code is None:
        raise Refused(Status.UNKNOWN, "the call ended without a status")
    if code != "0":
        try:
            status = Status(int(code))
        except ValueError:
            status = Status.UNKNOWN
        raise Refused(status, unquote((told or {}).get("grpc-message", "")))
