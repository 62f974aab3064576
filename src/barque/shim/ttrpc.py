"""ttrpc's framing, both sides, without I/O.

Source: the protocol page of containerd's ttrpc, version 1.0 (unary calls).

    data length u32 | stream id u32 | type u8 | flags u8 | data          (big-endian)

A request (type 1) opens a stream with an odd id and carries `ttrpc.Request`; the one response
(type 2) carries `ttrpc.Response` and ends it.
"""

from __future__ import annotations

import struct

from barque import errors
from barque.shim.messages import RPC_REQUEST, RPC_RESPONSE
from barque.shim.wire import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3
DATA_LENGTH_MAX: Final = 4 << 20
HEADER: Final = struct.Struct(">IIBB")

# google.rpc.Code
OK: Final = 0
UNKNOWN: Final = 2
CODES: Final[dict[type[BaseException], int]] = {
    errors.InvalidArgument: 3,
    errors.Timeout: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.Forbidden: 7,
    errors.ResourceExhausted: 8,
    errors.Conflict: 9,  # FAILED_PRECONDITION
    errors.Unsupported: 12,
    errors.Unavailable: 14,
    errors.DataLoss: 15,
    errors.Unauthorized: 16,
}
KINDS: Final[dict[int, type[errors.BarqueError]]] = {
    code: kind for kind, code in CODES.items() if issubclass(kind, errors.BarqueError)
}


class Frame:
    """One message frame."""

    __slots__ = ("data", "flags", "kind", "stream")

    def __init__(self, stream: int, kind: int, flags: int, data: bytes) -> None:
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.data = data


class Parser:
    """Bytes in, frames out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def empty(self) -> bool:
        """Whether no frame is begun."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises ResourceExhausted for a frame over `DATA_LENGTH_MAX`: the connection cannot go on.
        """
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER.size:
            length, stream, kind, flags = HEADER.unpack_from(buffer, at)
            if length > DATA_LENGTH_MAX:
                raise errors.ResourceExhausted(f"ttrpc message of {length} bytes is too long")
            start = at + HEADER.size
            if len(buffer) - start < length:
                break
            at = start + length
            frames.append(Frame(stream, kind, flags, bytes(buffer[start:at])))
        if at:
            del buffer[:at]
        return frames


def code_of(error: BaseException) -> int:
    """The status code of a kind of error; UNKNOWN for what is no kind of ours."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return UNKNOWN


def error_of(code: int, message: str) -> errors.BarqueError:
    """The kind of error of a status code that is not OK."""
    return KINDS.get(code, errors.BarqueError)(message)


def frame(stream: int, kind: int, data: bytes) -> bytes:
    """One frame as bytes. Raises ResourceExhausted when `data` is too long for one."""
    if len(data) > DATA_LENGTH_MAX:
        raise errors.ResourceExhausted(f"ttrpc message of {len(data)} bytes is too long")
    return HEADER.pack(len(data), stream, kind, 0) + data


def request(
    stream: int,
    service: str,
    method: str,
    payload: bytes,
    timeout_ns: int = 0,
    metadata: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A call, as bytes. `timeout_ns` 0: none. `metadata`: containerd passes the namespace in it."""
    pairs = [{"key": key, "value": value} for key, value in metadata]
    values = {
        "service": service,
        "method": method,
        "payload": payload,
        "timeout_nano": timeout_ns,
        "metadata": pairs,
    }
    return frame(stream, REQUEST, encode(RPC_REQUEST, values))


def response(stream: int, payload: bytes) -> bytes:
    """The answer to the call on `stream`, as bytes."""
    return frame(stream, RESPONSE, encode(RPC_RESPONSE, {"payload": payload}))


def failure(stream: int, error: BaseException) -> bytes:
    """The answer to a call that failed, as bytes."""
    status = {"code": code_of(error), "message": str(error) or type(error).__name__}
    return frame(stream, RESPONSE, encode(RPC_RESPONSE, {"status": status}))


def parse_request(data: bytes) -> dict[str, Any]:
    """A request frame's call: service, method, payload, timeout_nano, metadata.

    Raises InvalidArgument for malformed data.
    """
    return decode(RPC_REQUEST, data)


def parse_response(data: bytes) -> bytes:
    """A response frame's payload. Raises the kind of error that its status names."""
    answer = decode(RPC_RESPONSE, data)
    status = answer["status"]
    if status is not None and status["code"] != OK:
        raise error_of(status["code"], status["message"])
    payload: bytes = answer["payload"]
    return payload
