"""The frames of HTTP/2: their header, types, flags, settings and error codes.

+------------+---------+----------+------------------+
| length u24 | type u8 | flags u8 | stream u31       |   RFC 9113, section 4.1
+------------+---------+----------+------------------+
"""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Settings (section 6.5.2).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = (1 << 31) - 1
DEFAULT_FRAME: Final = 1 << 14
LARGEST_FRAME: Final = (1 << 24) - 1
DEFAULT_TABLE: Final = 4096

# Error codes (section 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM: Final = 11


class ConnectionFault(Exception):
    """The peer broke the protocol; the connection ends with this code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame; `payload` fits the peer's largest."""
    return b"%b%b%b%b" % (
        len(payload).to_bytes(3, "big"),
        bytes((kind, flags)),
        stream.to_bytes(4, "big"),
        payload,
    )


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    pairs = (key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def settings_of(payload: bytes) -> list[tuple[int, int]]:
    """What a SETTINGS frame says, in its order."""
    if len(payload) % 6:
        raise ConnectionFault(FRAME_SIZE_ERROR, "settings of a broken length")
    return [
        (
            int.from_bytes(payload[at : at + 2], "big"),
            int.from_bytes(payload[at + 2 : at + 6], "big"),
        )
        for at in range(0, len(payload), 6)
    ]


def number(payload: bytes) -> int:
    """The one number of a WINDOW_UPDATE or RST_STREAM frame."""
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of a broken length")
    return int.from_bytes(payload, "big")


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding and priority."""
    end = len(payload)
    start = 0
    if flags & PADDED:
        if not payload or payload[0] >= end:
            raise ConnectionFault(PROTOCOL_ERROR, "more padding than payload")
        start, end = 1, end - payload[0]
    if flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of a broken length")
    return payload[start:end] if start or end != len(payload) else payload
