"""criu's images as content of a containerd, ours and the real one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.daemon.containers import criu_images
from tests.support.node import Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", params=["ours", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[Node]:
    with node(request.param) as it:
        yield it


def test_images_are_stored_as_often_as_wanted(server: Node, tmp_path: Path) -> None:
    """A container is restored from one checkpoint again and again: its blob may be there."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("core-1.img", "pages-1.img"):
        (images / name).write_bytes(secrets.token_bytes(300_000))

    async def check() -> None:
        client = await Containerd.connect(server.address, "n")
        try:
            async with client.leased() as held:
                first = await criu_images.store(held, str(images))
                assert await criu_images.store(held, str(images)) == first
                back = tmp_path / "back"
                back.mkdir()
                await criu_images.fetch(held, [first], str(back))
                assert {one.name: one.read_bytes() for one in back.iterdir()} == {
                    one.name: one.read_bytes() for one in images.iterdir()
                }
                assert await held.content.statuses() == []
                await held.content.delete(first.digest)
        finally:
            client.close()

    asyncio.run(check())
