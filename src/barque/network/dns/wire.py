"""DNS messages, as far as a forwarding name server of container names needs them (RFC 1035).

Pure: bytes in, bytes out. A question is kept as received, so that an answer repeats it exactly.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

A: Final = 1
PTR: Final = 12
MX: Final = 15
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
CLASS_IN: Final = 1

NO_ERROR: Final = 0
FORMAT_ERROR: Final = 1
SERVER_FAILURE: Final = 2
NOT_IMPLEMENTED: Final = 4
REFUSED: Final = 5

HEADER_BYTES: Final = 12
MAX_NAME_BYTES: Final = 255
MIN_UDP_BYTES: Final = 512
MAX_UDP_BYTES: Final = 4096
TTL_S: Final = 600  # as Docker's

_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_QUESTION_NAME = b"\xc0\x0c"  # a pointer to the question's name
_ANSWER, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x0100, 0x0080


class FormError(Exception):
    """A message that is no query."""


class Query:
    """One question. `name` is in lower case, without the final dot."""

    __slots__ = ("end", "flags", "kind", "limit", "name", "packet", "supported")

    def __init__(self, packet: bytes) -> None:
        """Raises FormError for what is no query with exactly one question."""
        if len(packet) < HEADER_BYTES:
            raise FormError("a message has at least 12 bytes")
        _, self.flags, questions, answers, _, extra = _HEADER.unpack_from(packet)
        if self.flags & _ANSWER or questions != 1 or answers:
            raise FormError("a query has one question and no answer")
        self.packet = packet
        self.name, offset = read_name(packet, HEADER_BYTES)
        if offset + 4 > len(packet):
            raise FormError("the question is cut off")
        self.kind = int.from_bytes(packet[offset : offset + 2], "big")
        internet = packet[offset + 2 : offset + 4] == b"\0\1"
        self.supported = internet and not self.flags >> 11 & 15
        self.end = offset + 4
        self.limit = _udp_limit(packet, self.end) if extra else MIN_UDP_BYTES

    def header(self, code: int, answers: int, *, truncated: bool = False) -> bytes:
        flags = _ANSWER | _RECURSION_AVAILABLE | code | (self.flags & _RECURSION_DESIRED)
        if truncated:
            flags |= _TRUNCATED
        return self.packet[:2] + struct.pack(">HHHHH", flags, 1, answers, 0, 0)

    def answer(self, records: Sequence[bytes] = (), *, limit: int, code: int = NO_ERROR) -> bytes:
        """An answer of at most `limit` bytes; marked when not all of `records` fit."""
        question = self.packet[HEADER_BYTES : self.end]
        room = limit - HEADER_BYTES - len(question)
        fitting = 0
        for record in records:
            room -= len(record)
            if room < 0:
                break
            fitting += 1
        head = self.header(code, fitting, truncated=fitting < len(records))
        return head + question + b"".join(records[:fitting])


def _udp_limit(packet: bytes, offset: int) -> int:
    """What an OPT record right after the question says the asker can take (RFC 6891)."""
    if packet[offset : offset + 1] != b"\0" or offset + 5 > len(packet):
        return MIN_UDP_BYTES
    kind, size = struct.unpack_from(">HH", packet, offset + 1)
    return min(max(size, MIN_UDP_BYTES), MAX_UDP_BYTES) if kind == OPT else MIN_UDP_BYTES


def read_name(packet: bytes, offset: int) -> tuple[str, int]:
    """The name at `offset`, in lower case, and where it ends. A question has no pointers."""
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(packet) or offset - start > MAX_NAME_BYTES:
            raise FormError("the name is cut off or too long")
        length = packet[offset]
        if length == 0:
            return ".".join(labels), offset + 1
        if length > 63:
            raise FormError("a label is too long")
        label = packet[offset + 1 : offset + 1 + length]
        labels.append(label.decode("latin-1").lower())
        offset += 1 + length


def encode_name(name: str) -> bytes:
    """Raises ValueError for a name that no message can carry."""
    encoded = bytearray()
    for label in name.rstrip(".").split("."):
        raw = label.encode("latin-1")
        if not 0 < len(raw) < 64:
            raise ValueError(f"invalid name: {name!r}")
        encoded.append(len(raw))
        encoded += raw
    encoded.append(0)
    if len(encoded) > MAX_NAME_BYTES:
        raise ValueError(f"invalid name: {name!r}")
    return bytes(encoded)


def _record(kind: int, data: bytes) -> bytes:
    return _QUESTION_NAME + _RECORD.pack(kind, CLASS_IN, TTL_S, len(data)) + data


def address_records(kind: int, addresses: Iterable[bytes]) -> list[bytes]:
    return [_record(kind, address) for address in addresses]


def pointer_record(name: str) -> bytes:
    return _record(PTR, encode_name(name))


def service_record(port: int, target: str) -> bytes:
    return _record(SRV, struct.pack(">HHH", 0, 0, port) + encode_name(target))


def code_of(packet: bytes) -> int:
    """The response code of an answer."""
    return packet[3] & 15


def is_answer_to(packet: bytes, query: bytes) -> bool:
    """Whether `packet` may be the answer to `query`: same id, an answer, same question if any."""
    if len(packet) < HEADER_BYTES or packet[:2] != query[:2] or not packet[2] & 0x80:
        return False
    if packet[4:6] == b"\0\0":
        return True
    name, offset = read_name(query, HEADER_BYTES)
    try:
        asked, end = read_name(packet, HEADER_BYTES)
    except FormError:
        return False
    return asked == name and packet[end : end + 4] == query[offset : offset + 4]


def address_of_pointer(name: str) -> bytes | None:
    """The packed address that a PTR question asks about, None when it is no address."""
    labels = name.split(".")
    if name.endswith(".in-addr.arpa") and len(labels) == 6:
        numbers = labels[3::-1]
        if all(n.isascii() and n.isdigit() and len(n) < 4 and int(n) < 256 for n in numbers):
            return bytes(int(number) for number in numbers)
    if name.endswith(".ip6.arpa") and len(labels) == 34:
        digits = "".join(labels[31::-1])
        if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
            return bytes.fromhex(digits)
    return None
