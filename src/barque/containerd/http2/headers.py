"""Header blocks: HPACK (RFC 7541) written without state, read with the library where it needs one.

What we write is only literals that no table keeps, so a block is the same bytes every time. What
our own other end wrote is read by the short parser here; blocks with Huffman codes or with entries
of the dynamic table, such as Go's, go through `hpack`, which is loaded when the first one comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from barque.containerd.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

if TYPE_CHECKING:
    from hpack import Decoder as _Library

Headers = dict[str, str]

MOST_HEADER_BYTES = 64 << 10  # of one block, and of what it stands for
SHORTEST_LONG = 127  # a length from here on takes more than one byte
STATUS_200 = b"\x88"
METHOD_POST = b"\x83"
SCHEME_HTTP = b"\x86"
# The static table as far as we write it: index -> header.
STATIC = {0x88: (":status", "200"), 0x83: (":method", "POST"), 0x86: (":scheme", "http")}
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
        self._library: _Library | None = None
        self._known: dict[bytes, Headers] = {}  # plain blocks seen before: few, and short

    def read(self, block: bytes) -> Headers:
        """The headers of a block; a name that comes again counts as its last. The caller does not
        change the result. Raises ConnectionFault."""
        known = self._known.get(block)
        if known is not None:
            return known
        plain = _plain(block)
        if plain is None:
            return self._read_with_state(block)
        if len(self._known) < 256:
            self._known[block] = plain
        return plain

    def _read_with_state(self, block: bytes) -> Headers:
        from hpack import Decoder, HPACKError, OversizedHeaderListError

        if self._library is None:
            self._library = Decoder(max_header_list_size=MOST_HEADER_BYTES)
        try:
            return {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in self._library.decode(block, raw=True)
            }
        except OversizedHeaderListError:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many headers") from None
        except (HPACKError, ValueError, IndexError) as error:
            raise ConnectionFault(COMPRESSION_ERROR, f"header block: {error}") from None


def _plain(block: bytes) -> Headers | None:
    """A block as `literal` writes it; None for one that may concern the library's state."""
    found: Headers = {}
    at, end = 0, len(block)
    while at < end:
        first = block[at]
        if first in STATIC:
            name, value = STATIC[first]
            found[name] = value
            at += 1
            continue
        if first != 0:
            return None
        pair = []
        at += 1
        for _ in range(2):
            if at >= end or block[at] >= SHORTEST_LONG:  # Huffman coded, or long
                return None
            length = block[at]
            if at + 1 + length > end:
                return None
            pair.append(block[at + 1 : at + 1 + length].decode("latin-1"))
            at += 1 + length
        found[pair[0]] = pair[1]
    return found
