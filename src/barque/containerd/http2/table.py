"""HPACK (RFC 7541), read: one direction's table and the blocks that are read with it.

Huffman codes are the library's, which is loaded when the first one comes; what they stand for is
remembered, because a client sends the same few names and paths all day.
"""

from __future__ import annotations

from typing import Final

from barque.containerd.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

MOST_TABLE_BYTES: Final = 4096  # what SETTINGS_HEADER_TABLE_SIZE is when nobody sets it
ENTRY_BYTES: Final = 32  # what an entry counts beyond its name and value (section 4.1)
MOST_SHIFT: Final = 28  # bits of an integer's continuation: beyond any length that is allowed
MOST_REMEMBERED: Final = 1024
LONGEST_REMEMBERED: Final = 128  # bytes

# Appendix A: index 1 and up; those of the last part have no values.
# fmt: off
NAMES: Final = (
    "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type",
    "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
    "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range",
    "referer", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security",
    "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
)
# fmt: on
STATIC: Final[tuple[tuple[str, str], ...]] = (
    ("", ""),  # index 0 is none
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    *((name, "") for name in NAMES),
)
DYNAMIC: Final = len(STATIC)  # the index of the newest entry of the dynamic table

_huffman: dict[bytes, str] = {}


class Table:
    """The dynamic table of one direction of a connection: newest entry first."""

    __slots__ = ("_entries", "_limit", "_size", "changed", "used")

    def __init__(self) -> None:
        self._entries: list[tuple[str, str]] = []
        self._size = 0
        self._limit = MOST_TABLE_BYTES
        self.used = self.changed = False  # by the last block

    def read(self, block: bytes, most: int) -> dict[str, str]:
        """The headers of a block; a name that comes again counts as its last.

        Raises ConnectionFault for a malformed one, and for one that stands for more than `most`
        bytes. The table is of no use after that.
        """
        self.used = self.changed = False
        found: dict[str, str] = {}
        total = at = 0
        try:
            while at < len(block):
                first = block[at]
                if first & 0x80:
                    index, at = _integer(block, at, 0x7F)
                    name, value = self._entry(index)
                elif first & 0x60 == 0x20:
                    at = self._resize(block, at, first=not found)
                    continue
                else:
                    name, value, at = self._literal(block, at, keep=bool(first & 0x40))
                total += len(name) + len(value) + ENTRY_BYTES
                if total > most:
                    raise ConnectionFault(ENHANCE_YOUR_CALM, "too many headers")
                found[name] = value
        except IndexError:
            raise _broken("it ends too early, or names what is not there") from None
        return found

    def _entry(self, index: int) -> tuple[str, str]:
        if not index:
            raise _broken("index 0")
        if index < DYNAMIC:
            return STATIC[index]
        self.used = True
        return self._entries[index - DYNAMIC]

    def _literal(self, block: bytes, at: int, *, keep: bool) -> tuple[str, str, int]:
        index, at = _integer(block, at, 0x3F if keep else 0x0F)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if keep:
            self._add(name, value)
        return name, value, at

    def _add(self, name: str, value: str) -> None:
        self.changed = True
        self._entries.insert(0, (name, value))
        self._size += len(name) + len(value) + ENTRY_BYTES
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + ENTRY_BYTES

    def _resize(self, block: bytes, at: int, *, first: bool) -> int:
        """A dynamic table size update, which only comes before the headers (section 4.2)."""
        size, at = _integer(block, at, 0x1F)
        if not first or size > MOST_TABLE_BYTES:
            raise _broken("a size update out of place or range")
        self.changed = True
        self._limit = size
        self._evict()
        return at


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """An integer whose first bits are in `block[at]`, and where it ends (section 5.1)."""
    value = block[at] & prefix
    at += 1
    if value < prefix:
        return value, at
    for shift in range(0, MOST_SHIFT + 1, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _broken("a number is too long")


def _string(block: bytes, at: int) -> tuple[str, int]:
    """A string, and where it ends (section 5.2)."""
    coded = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _broken("a string is cut short")
    raw = block[at:end]
    return (_decoded(raw) if coded else raw.decode("latin-1")), end


def _decoded(raw: bytes) -> str:
    """What a Huffman code stands for."""
    known = _huffman.get(raw)
    if known is not None:
        return known
    from hpack import HPACKError
    from hpack.huffman_table import decode_huffman

    try:
        text = decode_huffman(raw).decode("latin-1")
    except HPACKError as error:
        raise _broken(str(error)) from None
    if len(raw) <= LONGEST_REMEMBERED:
        if len(_huffman) >= MOST_REMEMBERED:
            _huffman.clear()
        _huffman[raw] = text
    return text


def _broken(why: str) -> ConnectionFault:
    return ConnectionFault(COMPRESSION_ERROR, f"header block: {why}")
