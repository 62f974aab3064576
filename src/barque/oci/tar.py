"""Reading tar archives without input or output: bytes in, entries and their data out.

    reader = Reader()
    reader.feed(chunk); reader.feed(chunk); ...; reader.end()
    while (event := reader.next_event()) is not None: ...   # None: feed more

    events:  Entry (Data)* Entry (Data)* ... End

Source: POSIX.1-2017 pax and ustar, GNU tar's formats (long names, base-256 numbers, sparse files);
image-spec, layer.md. Archives are untrusted: every size is bounded, numbers are range-checked,
names are bytes without NUL. What a name leads to is not looked at here.
"""

from __future__ import annotations

from barque.errors import InvalidArgument, Unsupported
from barque.oci.tar_fields import (
    SIZE_MAX,
    check_sum,
    checked_name,
    decimal,
    decimal_lines,
    integers,
    name_of,
    number_of,
    pairs,
    records,
    text_of,
    time_ns,
)

BLOCK = 512
REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
CONTIGUOUS, GNU_SPARSE = b"7S"
PAX, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK = b"xgLK"

EXTENDED_BYTES_MAX = 1 << 20  # of one pax or long name header
ID_MAX = (1 << 32) - 2  # -1 means "leave it" to the kernel
XATTR_PREFIX = b"SCHILY.xattr."
SPARSE_PREFIX = b"GNU.sparse."

ZEROS = bytes(BLOCK)


class Entry:
    """One header, with what extended headers before it said.

    `size` is that of the file; `pieces` are the parts of it that are in the archive as
    (offset, length), None for a file that is there whole.
    """

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "pieces",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, kind: int) -> None:
        self.name = name
        self.kind = kind
        self.link = b""
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.pieces: list[tuple[int, int]] | None = None

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, kind={chr(self.kind)!r}, size={self.size})"


class Data:
    """Bytes of the entry before, for `offset` in its file."""

    __slots__ = ("offset", "payload")

    def __init__(self, offset: int, payload: memoryview) -> None:
        self.offset = offset
        self.payload = payload


class End:
    """The archive is over; what follows is padding."""

    __slots__ = ()


Event = Entry | Data | End
END = End()


class Reader:
    """Takes an archive in any pieces. `next_event` raises InvalidArgument for what is malformed."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._ended = False  # no more bytes will come
        self._over = False  # the End event was given
        self._saw_zeros = False
        self._stored = 0  # bytes of the current entry still to come
        self._padding = 0
        self._pieces: list[tuple[int, int]] = []
        self._extended: dict[bytes, bytes] = {}
        self._collecting: tuple[int, int] | None = None  # kind and size of an extended header
        self._sparse: Entry | None = None  # waits for its map

    def feed(self, data: bytes) -> None:
        """More bytes. All events should be taken before, so that memory stays bounded."""
        if self._over:
            return
        rest = self._buffer[self._at :]
        self._buffer = rest + data if rest else data
        self._at = 0

    def end(self) -> None:
        """That was all."""
        self._ended = True

    def next_event(self) -> Event | None:
        """The next event; None when more bytes are needed, or after End."""
        while not self._over:
            if self._stored and self._sparse is None and self._collecting is None:
                return self._data()
            if self._padding:
                if not self._skip_padding():
                    # Some writers leave out the padding of the last file, with all after it.
                    return self._finish() if self._ended else None
                continue
            if self._collecting is not None:
                if not self._collect(*self._collecting):
                    return self._starved("an extended header")
                continue
            if self._sparse is not None:
                if (entry := self._sparse_map(self._sparse)) is None:
                    return self._starved("a sparse map")
                return entry
            header = self._take(BLOCK)
            if header is None:
                return self._end_of_input()
            if header == ZEROS:
                if self._saw_zeros:
                    return self._finish()
                self._saw_zeros = True
                continue
            if self._saw_zeros:  # two readers could see two different archives here
                raise InvalidArgument("archive has a lone block of zeros in it")
            event = self._header(header)
            if event is not None:
                return event
        return None

    # Data taken past us

    def expected(self) -> tuple[int, int] | None:
        """(offset, length) of what comes next of the current file, when no byte of it is here."""
        if not self._stored or self._have() or self._sparse is not None or self._collecting:
            return None
        return self._pieces[0]

    def taken(self, size: int) -> None:
        """The next `size` bytes (at most `expected()` has) went from the input to their file."""
        offset, length = self._pieces[0]
        assert size <= length
        self._stored -= size
        if size == length:
            self._pieces.pop(0)
        else:
            self._pieces[0] = (offset + size, length - size)

    # Bytes

    def _have(self) -> int:
        return len(self._buffer) - self._at

    def _take(self, size: int) -> bytes | None:
        if self._have() < size:
            return None
        taken = self._buffer[self._at : self._at + size]
        self._at += size
        return taken

    def _starved(self, where: str) -> Event | None:
        if self._ended:
            raise InvalidArgument(f"archive ends in the middle of {where}")
        return None

    def _end_of_input(self) -> Event | None:
        if not self._ended:
            return None
        if self._have():
            raise InvalidArgument("archive ends in the middle of a header")
        return self._finish()

    def _finish(self) -> Event:
        self._over = True
        self._buffer, self._at = b"", 0
        return END

    def _skip_padding(self) -> bool:
        skipped = min(self._padding, self._have())
        self._at += skipped
        self._padding -= skipped
        return not self._padding

    def _data(self) -> Data | None:
        offset, length = self._pieces[0]
        size = min(self._have(), length)
        if not size:
            if self._ended:
                raise InvalidArgument("archive ends in the middle of a file")
            return None
        payload = memoryview(self._buffer)[self._at : self._at + size]
        self._at += size
        self._stored -= size
        if size == length:
            self._pieces.pop(0)
        else:
            self._pieces[0] = (offset + size, length - size)
        return Data(offset, payload)

    def _expect(self, size: int, pieces: list[tuple[int, int]]) -> None:
        self._stored = size
        self._padding = -size % BLOCK
        self._pieces = pieces

    # Headers

    def _header(self, header: bytes) -> Entry | None:
        check_sum(header)
        kind = header[156] or REGULAR
        size = number_of(header[124:136], "size")
        if kind in (PAX, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK):
            if size > EXTENDED_BYTES_MAX:
                raise InvalidArgument(f"archive has an extended header of {size} bytes")
            self._collecting = (kind, size)
            return None
        entry = self._entry(header, kind, size)
        sparse = {k: v for k, v in self._extended.items() if k.startswith(SPARSE_PREFIX)}
        self._extended = {}
        if kind == GNU_SPARSE:
            return self._old_sparse(entry, header, size)
        if sparse and entry.kind == REGULAR:
            return self._pax_sparse(entry, sparse)
        # Only regular files have data; a size in another kind's header means nothing.
        stored = entry.size if entry.kind == REGULAR else 0
        entry.size = stored
        self._expect(stored, [(0, stored)])
        return entry

    def _entry(self, header: bytes, kind: int, size: int) -> Entry:
        extended = self._extended
        name = extended.get(b"path") or extended.get(b"\0L") or name_of(header)
        if kind in (REGULAR, CONTIGUOUS) and name.endswith(b"/"):
            kind = DIRECTORY  # before ustar a directory had no kind of its own
        kind = REGULAR if kind in (CONTIGUOUS, GNU_SPARSE) else kind
        if not REGULAR <= kind <= FIFO:
            raise InvalidArgument(f"archive has an entry of unknown type {bytes([kind])!r}")
        entry = Entry(checked_name(name, "name"), kind)
        if kind in (LINK, SYMLINK):
            link = extended.get(b"linkpath") or extended.get(b"\0K") or text_of(header[157:257])
            entry.link = checked_name(link, "link")
        entry.mode = number_of(header[100:108], "mode") & 0o7777
        entry.uid = decimal(extended, b"uid", number_of(header[108:116], "uid"), ID_MAX)
        entry.gid = decimal(extended, b"gid", number_of(header[116:124], "gid"), ID_MAX)
        entry.size = decimal(extended, b"size", size, SIZE_MAX)
        entry.mtime_ns = time_ns(extended.get(b"mtime"), header[136:148])
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major = number_of(header[329:337], "device") & 0xFFFFFFFF
            entry.minor = number_of(header[337:345], "device") & 0xFFFFFFFF
        entry.xattrs = {
            key[len(XATTR_PREFIX) :]: value
            for key, value in extended.items()
            if key.startswith(XATTR_PREFIX)
        }
        return entry

    # Extended headers

    def _collect(self, kind: int, size: int) -> bool:
        body = self._take(size)
        if body is None:
            return False
        self._collecting = None
        self._padding = -size % BLOCK
        if kind == GNU_LONG_NAME:
            self._extended[b"\0L"] = body.rstrip(b"\0")
        elif kind == GNU_LONG_LINK:
            self._extended[b"\0K"] = body.rstrip(b"\0")
        elif kind == PAX:
            for key, value in records(body):
                if key == SPARSE_PREFIX + b"offset" or key == SPARSE_PREFIX + b"numbytes":
                    # format 0.0 repeats these two keys: gather them as format 0.1 does
                    earlier = self._extended.get(SPARSE_PREFIX + b"map", b"")
                    key, value = SPARSE_PREFIX + b"map", earlier + b"," * bool(earlier) + value
                self._extended[key] = value
        return True  # a global header holds nothing that a layer may depend on

    # Sparse files

    def _old_sparse(self, entry: Entry, header: bytes, stored: int) -> Entry:
        if header[482]:
            raise Unsupported("archive has a sparse file with a long map of the old GNU format")
        pieces = []
        for at in range(386, 482, 24):
            if header[at] == 0:
                break
            offset = number_of(header[at : at + 12], "sparse offset")
            pieces.append((offset, number_of(header[at + 12 : at + 24], "sparse length")))
        entry.size = number_of(header[483:495], "real size")
        return self._with_pieces(entry, pieces, stored)

    def _pax_sparse(self, entry: Entry, sparse: dict[bytes, bytes]) -> Entry | None:
        name = sparse.get(SPARSE_PREFIX + b"name")
        if name is not None:
            entry.name = checked_name(name, "name")
        stored = entry.size
        if sparse.get(SPARSE_PREFIX + b"major") == b"1":
            entry.size = decimal(sparse, SPARSE_PREFIX + b"realsize", 0, SIZE_MAX)
            self._stored = stored
            self._padding = 0
            self._sparse = entry
            return None
        entry.size = decimal(sparse, SPARSE_PREFIX + b"size", 0, SIZE_MAX)
        numbers = integers(sparse.get(SPARSE_PREFIX + b"map", b"").split(b","))
        return self._with_pieces(entry, pairs(numbers), stored)

    def _sparse_map(self, entry: Entry) -> Entry | None:
        """Format 1.0: the map is text at the start of the data, padded to a block."""
        found = decimal_lines(self._buffer, self._at, self._stored)
        if found is None:
            return None
        numbers, used = found
        used += -used % BLOCK
        if self._have() < used:
            return None
        self._at += used
        self._sparse = None
        return self._with_pieces(entry, pairs(numbers), self._stored - used)

    def _with_pieces(self, entry: Entry, pieces: list[tuple[int, int]], stored: int) -> Entry:
        end = 0
        for offset, length in pieces:
            if offset < end or offset + length > entry.size:
                raise InvalidArgument(f"archive has a sparse file with a bad map: {entry.name!r}")
            end = offset + length
        if sum(length for _, length in pieces) != stored or stored < 0:
            raise InvalidArgument(f"archive has a sparse file with a bad map: {entry.name!r}")
        entry.pieces = pieces
        self._expect(stored, [piece for piece in pieces if piece[1]])
        return entry
