"""Layers that should do harm, on each way into the store: by pull, by load and by import.

Refused with one clear line and nothing half visible, or unpacked inside their own root and whole by
`image verify`: the machine is untouched both ways.
"""

from __future__ import annotations

import gzip
import os
import secrets
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.oci import digest as digests
from barque.registry import ANONYMOUS
from tests.support.containerds import containerd
from tests.support.images import Bench, link, on, tar
from tests.support.scripted_registry import scripted_image, scripted_registry
from tools.busybox_image import docker_archive, image_config

pytestmark = [pytest.mark.root]

Lines = list[dict[str, Any]]
Road = Callable[[Bench, bytes, bytes], Awaitable[Lines]]
CANARY = Path(f"/tmp/bq-canary-{secrets.token_hex(6)}")
VICTIM = Path(f"/tmp/bq-victim-{secrets.token_hex(6)}")
NOISE = os.urandom(300_000)
PLAIN = tar(("etc/hello", NOISE))
PACKED = gzip.compress(PLAIN, 1)


async def pull(b: Bench, sent: bytes, plain: bytes) -> Lines:
    image = scripted_image(sent, diff_id=digests.sha256(plain))
    async with scripted_registry(image.answer) as registry:
        return await b.pull(f"{registry.address}/bad", "1")


async def load(b: Bench, sent: bytes, plain: bytes) -> Lines:
    return await b.load(docker_archive("bad:1", sent, image_config(plain)))


async def import_(b: Bench, sent: bytes, plain: bytes) -> Lines:
    return await b.import_(sent, "bad", "1")


ROADS: dict[str, Road] = {"pull": pull, "load": load, "import": import_}


@dataclass(frozen=True)
class Layer:
    """`sent` goes on its way, of a layer that should be `plain`. `fails`: None for either."""

    sent: bytes
    plain: bytes
    fails: bool | None = True


def one(*entries: Any, fails: bool | None = True) -> Layer:
    return Layer(tar(*entries), tar(*entries), fails)


def device(kind: bytes, major: int, minor: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo("dev/it")
    header.type, header.devmajor, header.devminor = kind, major, minor
    return header


LAYERS = {
    "cut short": Layer(PLAIN[:200_000], PLAIN[:200_000]),
    "gzip cut short": Layer(PACKED[:-100_000], PLAIN),
    "gzip damaged": Layer(PACKED[:100_000] + bytes(64) + PACKED[100_064:], PLAIN),
    "gzip and more": Layer(PACKED + b"more", PLAIN),
    "no archive": Layer(b"not a tar at all" * 100, b"not a tar at all" * 100),
    "to a parent": one((f"../../../../../tmp/{CANARY.name}", b"x")),
    "to a parent of a directory": one((f"a/../../../../../../tmp/{CANARY.name}", b"x")),
    "absolute": one((str(CANARY), b"x"), fails=False),
    "an absolute link": one(link("out", "/tmp"), fails=False),
    "through a link": one(link("out", "/tmp"), (f"out/{CANARY.name}", b"x"), fails=None),
    "through a link to parents": one(
        link("out", "../../../../../../tmp"), (f"out/{CANARY.name}", b"x"), fails=None
    ),
    "a hard link out": one(link("h", str(VICTIM), tarfile.LNKTYPE)),
    "a hard link through parents": one(link("h", f"../../../..{VICTIM}", tarfile.LNKTYPE)),
    "a whiteout out": one((f"../../../../../tmp/.wh.{VICTIM.name}", b"")),
    "a whiteout through a link": one(
        link("out", "/tmp"), (f"out/.wh.{VICTIM.name}", b""), fails=None
    ),
    "a root that is a link": one(link(".", "/tmp"), (CANARY.name, b"x"), fails=None),
    "a device": one(device(tarfile.CHRTYPE, 1, 3), fails=False),
    "a device of no number": one(device(tarfile.BLKTYPE, 1 << 20, 1 << 20)),
    "a long part": one(("n" * 300, b"x")),
    "a name of 4 KB": one(("n" * 4096, b"x")),
    "a path of 5 KB": one(("/".join(["d" * 200] * 25), b"x")),
    "a name with a line in it": one(("a\nb\x1b[2J", b"x"), fails=None),
}


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    VICTIM.write_text("alive")
    before = VICTIM.stat()
    try:
        yield
        assert not CANARY.exists()
        assert VICTIM.read_text() == "alive"
        after = VICTIM.stat()
        assert (after.st_nlink, after.st_mode) == (before.st_nlink, before.st_mode)
    finally:
        VICTIM.unlink(missing_ok=True)
        CANARY.unlink(missing_ok=True)


async def error_of(b: Bench, road: str, layer: Layer) -> str:
    """What it fails with, "" for nothing."""
    try:
        lines = await ROADS[road](b, layer.sent, layer.plain)
    except errors.BarqueError as error:
        return str(error)
    return str(lines[-1].get("error", ""))


def check_clear(error: str) -> None:
    assert error.isprintable(), repr(error)
    assert len(error) < 600
    assert "internal error" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_bad_layer(address: str, name: str, road: str) -> None:
    layer = LAYERS[name]

    async def body(b: Bench) -> None:
        error = await error_of(b, road, layer)
        if layer.fails is not None:
            assert bool(error) == layer.fails, error
        if error:
            check_clear(error)
            assert await b.images.list({}) == []
            assert await b.remains() == {}
        else:
            (found,) = await b.images.list({})
            told = await b.lines(
                lambda progress: b.images.verify(
                    found["Id"], progress, repair=False, credentials=ANONYMOUS
                )
            )
            assert (told[-1]["aux"]["Corrupt"], told[-1]["aux"]["Missing"]) == ([], [])

    on(address, body)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("packed", [True, False], ids=["a bomb", "more than there is room for"])
def test_no_room(road: str, packed: bool) -> None:
    """Bounded by what is free: the disk has room again afterwards, and a small image goes in."""
    plain = tar(
        ("zeros" if packed else "noise", bytes(48 << 20) if packed else os.urandom(24 << 20))
    )
    layer = Layer(gzip.compress(plain, 1) if packed else plain, plain)
    with containerd("ours", disk_bytes=20 << 20) as address:

        async def body(b: Bench) -> None:
            error = await error_of(b, road, layer)
            check_clear(error)
            assert "no space left on device" in error.lower() or "free" in error, error
            assert await b.images.list({}) == []
            assert await b.remains() == {}
            assert not await error_of(b, road, Layer(PLAIN, PLAIN))

        on(address, body)
