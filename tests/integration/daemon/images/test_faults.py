"""A full disk, a client that goes, many at once: the old state, and one clear error."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable

import pytest

from barque import errors
from barque.daemon.images.containerd_store import INGEST_PREFIX, LEASE_LABEL, ContainerdStore
from barque.daemon.images.progress import run
from barque.registry import ANONYMOUS
from tests.support.containerds import containerd
from tests.support.images import Bench, on, pieces, tar
from tests.support.scripted_registry import Asked, scripted_image, scripted_registry
from tools.busybox_image import docker_archive

pytestmark = pytest.mark.root

DISK_BYTES = 12 << 20
SMALL = docker_archive("small:1", tar(("f", os.urandom(1 << 20))))
LARGE = tar(("f", os.urandom(20 << 20)))  # more than the disk
TWICE = tar(("f", os.urandom(7 << 20)))  # fits once, not as blob and unpacked


async def failed(operation: Awaitable[list[dict[str, object]]]) -> str:
    try:
        lines = await operation
    except errors.BarqueError as error:
        return str(error)
    return str(lines[-1].get("error", ""))


@pytest.mark.parametrize("layer", [LARGE, TWICE], ids=["blob", "unpacked"])
def test_a_full_disk(layer: bytes) -> None:
    with containerd("ours", DISK_BYTES) as address:

        async def body(b: Bench) -> None:
            await b.load(SMALL)
            before = await b.remains()
            for operation in (
                b.import_(layer, "large", "1"),
                b.load(docker_archive("large:1", layer)),
            ):
                message = await failed(operation)
                assert "no space left on device" in message.lower()
                assert await b.remains() == before
            async with scripted_registry(scripted_image(layer).answer) as registry:
                message = await failed(b.pull(f"{registry.address}/large", "1"))
            assert "no space left on device" in message.lower()
            assert await b.remains() == before
            assert await b.broken_off() == []
            assert (await b.images.resolve("small:1")).size > 0
            await b.import_(tar(("g", b"fits")), "fits", "1")

        on(address, body)


def test_a_pull_whose_client_goes(address: str) -> None:
    image = scripted_image(LARGE)

    def answer(asked: Asked) -> bytes:
        raw = image.answer(asked)
        return raw[: len(raw) // 2] if len(raw) > 1 << 20 else raw  # the rest never comes

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            name = f"{registry.address}/large"
            stream = await run(lambda progress: b.images.pull(name, "1", None, ANONYMOUS, progress))
            while b"Downloading" not in await anext(stream):
                pass
            await stream.aclose()
            assert await b.remains() == {}
            assert len(await b.broken_off()) <= 1

    on(address, body)


@pytest.mark.parametrize("seed", range(4))
def test_loads_and_removals_from_many_clients(address: str, seed: int) -> None:
    """Whatever the order: what the list shows is there whole, and in the end nothing is left."""
    chance = random.Random(seed)
    layers = [tar((f"f{number}", bytes([number]) * 5000)) for number in range(3)]

    async def client(b: Bench) -> None:
        for _ in range(6):
            name = f"n{chance.randrange(4)}"
            step = chance.randrange(4)
            try:
                if step == 0:
                    await b.load(docker_archive(f"{name}:1", chance.choice(layers)))
                elif step == 1:
                    await b.images.tag(f"{name}:1", f"n{chance.randrange(4)}", "1")
                elif step == 2:
                    await b.images.remove(f"{name}:1", force=chance.random() < 0.5)
                else:
                    await b.images.prune({})
            except (errors.NotFound, errors.Conflict):
                pass

    async def body(b: Bench) -> None:
        await asyncio.gather(*(client(b) for _ in range(5)))
        for summary in await b.images.list({}):
            image = await b.images.resolve(summary["Id"])
            await b.containerd.snapshots.stat(image.chain_id)
            assert await b.save(summary["Id"])
            await b.images.remove(summary["Id"], force=True)
        assert await b.images.list({}) == []
        assert await b.remains() == {}

    on(address, body)


def test_what_a_dead_daemon_had_under_way_is_given_up(address: str) -> None:
    async def body(b: Bench) -> None:
        store = ContainerdStore(b.containerd)
        held = await b.containerd.leases.create(labels={LEASE_LABEL: "images"})
        others = await b.containerd.leases.create(labels={"whose": "another's"})
        await store.write(pieces(LARGE[:5000]), held.id)
        async with b.containerd.content.writer(f"{INGEST_PREFIX}half") as writer:
            await writer.write(b"half of it")
        async with b.containerd.content.writer("another's") as writer:
            await writer.write(b"half of it")
        await b.containerd.with_lease(held.id).snapshots.prepare("extract-1 x")
        await store.recover()
        left = await b.remains()
        assert left == {"ingests": ["another's"], "leases": [others.id]}
        await b.containerd.leases.delete(others.id)
        await b.containerd.content.abort("another's")

    on(address, body)
