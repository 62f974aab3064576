"""Numbers as protobuf's base-128 varints: seven bits a byte, the lowest first.

Source: the encoding page of the protobuf documentation.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

BYTES_MAX: Final = 10
U64: Final = 2**64 - 1


def varint(value: int) -> bytes:
    """`value` is 0 to 2**64-1."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends.

    Raises ValueError when it is cut off by `end`, or over-long.
    """
    value = shift = 0
    for position in range(at, min(end, at + BYTES_MAX)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & U64, position + 1
        shift += 7
    if end - at >= BYTES_MAX:
        raise ValueError("over-long varint")
    raise ValueError("truncated varint")
