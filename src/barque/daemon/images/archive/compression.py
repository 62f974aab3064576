"""Compressed streams recognised by their first bytes and undone in bounded steps.

Nothing is ever run to do it, and no name of a file is believed (CVE-2014-9356, CVE-2026-41567).
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import AsyncIterator, Callable
from typing import Any

from backports import zstd
from isal import isal_zlib

from barque import errors

STEP_BYTES = 1 << 20  # of output at a time, whatever the input expands to
XZ_MEMORY_BYTES = 256 << 20
MAGIC_BYTES = 6
# An archive may expand this much; what is below the floor may do as it likes.
MAX_RATIO = 200
RATIO_FLOOR_BYTES = 1 << 30

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}


def kind_of(head: bytes) -> str:
    """gzip, zstd, xz, bzip2, or "" for a stream that is none of these."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


class _Gzip:
    """isal's object with the interface of the others: input is kept until it is used up."""

    def __init__(self) -> None:
        self._inner = isal_zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out: bytes = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        return out

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "zstd": zstd.ZstdDecompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES),
    "bzip2": bz2.BZ2Decompressor,
}
_FAILURES: tuple[type[Exception], ...] = (
    isal_zlib.error,  # type: ignore[assignment]
    zstd.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
)


async def peek(
    chunks: AsyncIterator[bytes], count: int = MAGIC_BYTES
) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first `count` bytes (fewer at the end), and a stream that still begins with them."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= count:
            break
    return head[:count], _again(head, chunks)


async def _again(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


async def layer_stream(chunks: AsyncIterator[bytes]) -> tuple[str, AsyncIterator[bytes]]:
    """A stream that can be stored as a layer, and what its media type ends with: "", "+gzip",
    "+zstd". Other compressions are undone.
    """
    head, stream = await peek(chunks)
    kind = kind_of(head)
    if kind in {"gzip", "zstd"}:
        return f"+{kind}", stream
    return "", (expand(kind, stream) if kind else stream)


async def plain(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream without its compression, if it has one."""
    head, stream = await peek(chunks)
    kind = kind_of(head)
    async for chunk in expand(kind, stream) if kind else stream:
        yield chunk


async def expand(kind: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises InvalidArgument for what is corrupt or cut off, ResourceExhausted for a bomb."""
    decoder: Any = _DECODERS[kind]()
    taken = given = 0
    async for chunk in chunks:
        taken += len(chunk)
        data = chunk
        while data or not decoder.needs_input:
            if decoder.eof:
                decoder, data = _following(kind, decoder, data)
                if not data:
                    break
            out, data = _step(kind, decoder, data), b""
            given += len(out)
            if given > RATIO_FLOOR_BYTES and given > taken * MAX_RATIO:
                raise errors.ResourceExhausted(
                    f"{kind} archive expands to more than {MAX_RATIO} times its size"
                )
            if out:
                yield out
            if decoder.eof:
                data = decoder.unused_data
                if not data:
                    break
    if not decoder.eof:
        raise errors.InvalidArgument(f"{kind} archive is cut off")


def _step(kind: str, decoder: Any, data: bytes) -> bytes:
    try:
        out: bytes = decoder.decompress(data, STEP_BYTES)
    except _FAILURES as error:
        raise errors.InvalidArgument(f"{kind} archive is corrupt: {error}") from None
    return out


def _following(kind: str, decoder: Any, data: bytes) -> tuple[Any, bytes]:
    """After the end of one member: zeros are padding, another member may follow."""
    if not data.strip(b"\0"):
        return decoder, b""
    return _DECODERS[kind](), data
