"""A layer's bytes, uncompressed, in pieces of bounded size, with the digest of all of them.

Source: image-spec, layer.md: tar, gzip or zstd; told by the first bytes, as containerd does. A
stream may be several compressed ones after each other. Growth is bounded: `RATIO_MAX` times what
was read, once more than `FREE_BYTES` came out. The digest is made beside: a piece is hashed in
another thread while it is unpacked and the next one is decompressed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol

from barque.containerd.content.growth import Growth
from barque.containerd.threads import hashing
from barque.errors import DataLoss, ResourceExhausted, Unsupported

READ_BYTES = 256 << 10
PIECE_BYTES = 1 << 20
RATIO_MAX = 200
FREE_BYTES = 1 << 30

GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
USTAR = b"ustar"  # at 257: tar of POSIX and of GNU
OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}


class Decompressor(Protocol):
    """One compressed stream: isal's and zstd's have these in common."""

    @property
    def unused_data(self) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Layer:
    """The blob in `fd`, from its start. `digest` and `size` are of what `pieces` gave so far.

    `verified` is the digest that the blob is known to have: one that is not compressed is not
    hashed again, and its `digest` is right once `pieces` has ended. With a `growth` the blob is
    being written, and read as it comes, until that is `cancelled`.
    """

    def __init__(
        self,
        fd: int,
        verified: str = "",
        growth: Growth | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._fd = fd
        self._verified = verified if verified.startswith("sha256:") else ""
        self._hashed_by_others = bool(self._verified) or growth is not None
        self._growth = growth
        self._cancelled = cancelled or threading.Event()
        self._read = 0
        self._hash = hashlib.sha256(usedforsecurity=False)
        self._hashed: Future[None] | None = None
        self.size = 0

    @property
    def digest(self) -> str:
        self._wait()
        if self._hashed_by_others:
            return self._growth.digest if self._growth else self._verified
        return f"sha256:{self._hash.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        """Raises DataLoss for a broken stream, ResourceExhausted for one that grows too much."""
        first = self._more()
        for piece in self._uncompressed(first):
            self.size += len(piece)
            if self.size > FREE_BYTES and self.size > self._read * RATIO_MAX:
                raise ResourceExhausted(
                    f"layer grows to more than {RATIO_MAX} times its compressed size"
                )
            if not self._hashed_by_others:
                self._wait()
                self._hashed = hashing(self._hash, piece)
            yield piece

    def _wait(self) -> None:
        """For the piece before: there is one at a time, in order."""
        if self._hashed is not None:
            self._hashed.result()

    def _more(self) -> bytes:
        count = READ_BYTES
        if self._growth is not None:
            count = min(count, self._growth.beyond(self._read, self._cancelled))
        data = os.pread(self._fd, count, self._read)
        self._read += len(data)
        return data

    def _uncompressed(self, first: bytes) -> Iterator[bytes]:
        start = _decompressor(first)
        if start is not None:
            self._hashed_by_others = False
            return self._streams(first, start)
        for magic, name in OTHERS.items():
            if first.startswith(magic):
                raise Unsupported(f"layer is compressed with {name}, which layers must not be")
        return self._plain(first)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._more()

    def _streams(self, data: bytes, start: Callable[[], Decompressor]) -> Iterator[bytes]:
        stream: Decompressor = start()
        while True:
            if stream.eof:
                data = self._after(stream.unused_data)
                if not data:
                    return
                stream = start()
            try:
                piece = stream.decompress(data, PIECE_BYTES)
            except Exception as error:  # each library has its own kind
                raise DataLoss(f"layer is not well compressed: {error}") from error
            data = b""
            if piece:
                yield piece
            elif not stream.eof:
                data = self._more()
                if not data:
                    raise DataLoss("layer ends in the middle of its compressed data")

    def _after(self, rest: bytes) -> bytes:
        """What begins another stream; some writers pad the end with zeros instead."""
        while not rest.strip(b"\0"):
            rest = self._more()
            if not rest:
                return b""
        return rest


def looks_like_layer(first: bytes) -> bool:
    """Whether a blob that begins so may be one, by what archives and compressions begin with."""
    return _decompressor(first) is not None or first[257:262] == USTAR


def _decompressor(first: bytes) -> Callable[[], Decompressor] | None:
    if first.startswith(GZIP):
        return _gzip
    if first.startswith(ZSTD) or first[1:4] == b"\x2a\x4d\x18":  # or a skippable frame
        return _zstd
    return None


def _gzip() -> Decompressor:
    from isal import igzip_lib

    made: Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return made


def _zstd() -> Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    made: Decompressor = zstd.ZstdDecompressor()
    return made
