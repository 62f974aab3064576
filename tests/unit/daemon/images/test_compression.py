"""Compressed streams: whatever way they are cut, whole or broken, bomb or not."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
from collections.abc import AsyncIterator, Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.images.archive import compression

DATA = bytes(range(256)) * 600
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def plain(data: bytes, size: int = 1000) -> bytes:
    async def run() -> bytes:
        return b"".join([chunk async for chunk in compression.plain(pieces(data, size))])

    return asyncio.run(run())


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_every_kind_in_every_piece(kind: str, size: int) -> None:
    data = COMPRESS[kind](DATA)
    assert compression.kind_of(data) == kind
    assert plain(data, size) == DATA


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_what_is_not_compressed_passes(data: bytes, size: int) -> None:
    if not compression.kind_of(data):
        assert plain(data, size) == data


@pytest.mark.parametrize("kind", COMPRESS)
def test_several_members_and_padding(kind: str) -> None:
    assert plain(COMPRESS[kind](DATA) + COMPRESS[kind](b"more")) == DATA + b"more"
    assert plain(COMPRESS[kind](DATA) + bytes(512)) == DATA


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_stream_cut_off_is_an_error(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    for end in (7, len(data) // 2, len(data) - 1):
        with pytest.raises(errors.InvalidArgument):
            plain(data[:end])


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])  # zstd need not have a checksum
def test_corruption_is_an_error(kind: str) -> None:
    data = bytearray(COMPRESS[kind](DATA))
    for position in range(len(data) // 3, len(data) // 3 + 8):
        data[position] ^= 0xFF
    with pytest.raises(errors.InvalidArgument):
        plain(bytes(data))


def test_trailing_junk_is_an_error() -> None:
    with pytest.raises(errors.InvalidArgument):
        plain(gzip.compress(DATA) + b"junk")


def test_a_bomb_is_stopped_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FLOOR_BYTES", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    taken = 0

    async def run() -> None:
        nonlocal taken
        async for chunk in compression.plain(pieces(bomb, 4096)):
            taken += len(chunk)

    with pytest.raises(errors.ResourceExhausted):
        asyncio.run(run())
    assert taken < 4 << 20


def test_a_layer_keeps_gzip_and_zstd_alone() -> None:
    async def run(data: bytes) -> tuple[str, bytes]:
        suffix, stream = await compression.layer_stream(pieces(data, 100))
        return suffix, b"".join([chunk async for chunk in stream])

    packed = gzip.compress(DATA)
    assert asyncio.run(run(packed)) == ("+gzip", packed)
    assert asyncio.run(run(zstd.compress(DATA)))[0] == "+zstd"
    assert asyncio.run(run(lzma.compress(DATA))) == ("", DATA)
    assert asyncio.run(run(DATA)) == ("", DATA)
    assert asyncio.run(run(b"")) == ("", b"")
