"""Header blocks: HPACK (RFC 7541) written without state, and read with `table`.

What we write is only literals that no table keeps, so a block is the same bytes every time, and
our own other end knows it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from barque.containerd.http2.table import Table

Headers = dict[str, str]

MOST_HEADER_BYTES = 64 << 10  # of one block, and of what it stands for
SHORTEST_LONG = 127  # a length from here on takes more than one byte
STATUS_200 = b"\x88"
METHOD_POST = b"\x83"
SCHEME_HTTP = b"\x86"
MOST_KNOWN = 256  # blocks
TABLE_IS_EMPTY = b"\x20"  # a dynamic table size update to 0


def literal(name: str, value: str) -> bytes:
    """One header that no table keeps, not Huffman coded (section 6.2.2)."""
    return b"\0" + _text(name.encode("ascii")) + _text(value.encode("latin-1", "replace"))


def literals(pairs: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(literal(name, value) for name, value in pairs)


def _text(raw: bytes) -> bytes:
    length = len(raw)
    if length < SHORTEST_LONG:
        return bytes((length,)) + raw
    prefix, rest = bytearray((SHORTEST_LONG,)), length - SHORTEST_LONG
    while rest >= 128:
        prefix.append(rest & 127 | 128)
        rest >>= 7
    prefix.append(rest)
    return bytes(prefix) + raw


class HeaderReader:
    """Reads the blocks of one direction of one connection, in their order."""

    def __init__(self) -> None:
        self._table = Table()
        self._known: dict[bytes, Headers] = {}  # blocks seen before that mean the same always
        self._now: dict[bytes, Headers] = {}  # and those that do until the table changes

    def read(self, block: bytes) -> Headers:
        """The headers of a block; a name that comes again counts as its last. The caller does not
        change the result. Raises ConnectionFault."""
        known = self._known.get(block) or self._now.get(block)
        if known is not None:
            return known
        table = self._table
        headers = table.read(block, MOST_HEADER_BYTES)
        if table.changed:
            self._now.clear()
        else:
            blocks = self._now if table.used else self._known
            if len(blocks) < MOST_KNOWN:
                blocks[block] = headers
        return headers
