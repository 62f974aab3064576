"""A pull that broke off goes on where it was, with another daemon too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from barque.daemon.events import Events
from barque.daemon.images.containerd_store import FETCH_PREFIX, ContainerdStore
from barque.daemon.images.service import Images
from barque.registry import ANONYMOUS
from tests.support.containerds import containerd
from tests.support.images import Bench, bench, tar
from tests.support.scripted_registry import (
    Asked,
    ScriptedImage,
    failure,
    response,
    scripted_image,
    scripted_registry,
    sha256,
)

pytestmark = [pytest.mark.root, pytest.mark.peer]

SIZE, CUT = 4 << 20, 3 << 20


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    with containerd("ours") as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """It collects what no lease holds when it likes: what came may be there still, or not."""
    with containerd("real") as running:
        yield running


class Server:
    """Breaks the first transfer of the layer off after `CUT` bytes, and has the blob no more
    until `healed`.
    """

    def __init__(self, image: ScriptedImage, beginning: bytes) -> None:
        self._image, self._beginning = image, beginning
        self.healed = False
        self.ranges: list[str] = []
        self._begun = False

    def answer(self, asked: Asked) -> bytes:
        if not asked.path.endswith(sha256(self._image.layer)):
            return self._image.answer(asked)
        layer = self._image.layer
        if not self.healed:
            if self._begun:
                return failure(404, "BLOB_UNKNOWN")
            self._begun = True
            return response(200, self._beginning[:CUT], length=len(layer))
        self.ranges.append(asked.headers.get("range", ""))
        if not self.ranges[-1]:
            return response(200, layer)
        start = int(self.ranges[-1].removeprefix("bytes=").removesuffix("-"))
        where = f"bytes {start}-{len(layer) - 1}/{len(layer)}"
        return response(206, layer[start:], {"Content-Range": where})


async def another(b: Bench) -> Images:
    """As a daemon that was started again finds what there is."""
    images = Images(ContainerdStore(b.containerd), Events(), lambda image_id: ())
    await images.start()
    return images


def run(address: str, *, wrong: bool) -> list[str]:
    """The ranges that were asked for after the restart."""
    image = scripted_image(tar(("noise", os.urandom(SIZE))))
    server = Server(image, os.urandom(len(image.layer)) if wrong else image.layer)

    async def body() -> None:
        async with bench(address) as b, scripted_registry(server.answer) as registry:
            name = f"{registry.address}/broken"
            lines = await b.pull(name, "1")
            assert "error" in lines[-1]
            left = await b.containerd.content.statuses()
            assert all(one.ref.startswith(FETCH_PREFIX) for one in left)
            server.healed = True
            images = await another(b)
            try:
                lines = await b.lines(
                    lambda progress: images.pull(name, "1", None, ANONYMOUS, progress)
                )
                assert "error" not in lines[-1]
                assert (await images.resolve(f"{name}:1")).size >= SIZE
                data = await b.containerd.content.read_all(sha256(image.layer))
                assert data == image.layer
            finally:
                images.close()
            assert list(await b.containerd.content.statuses()) == []

    asyncio.run(body())
    return server.ranges


def test_a_pull_goes_on_after_a_restart(ours: str) -> None:
    (asked,) = run(ours, wrong=False)
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= CUT


def test_a_beginning_that_was_wrong_is_fetched_anew(ours: str) -> None:
    first, second = run(ours, wrong=True)
    assert first.startswith("bytes=")
    assert second == ""


@pytest.mark.parametrize("wrong", [False, True])
def test_a_containerd_that_may_have_collected_it(real: str, wrong: bool) -> None:
    assert len(run(real, wrong=wrong)) in (1, 2)
