"""Images that should do harm: one clear error, nothing half visible, nothing left."""

from __future__ import annotations

import os
import tarfile

import pytest

from tests.support.containerds import containerd
from tests.support.images import Bench, on, pieces, tar
from tests.support.scripted_registry import (
    Answer,
    Asked,
    ScriptedImage,
    response,
    scripted_image,
    scripted_registry,
    sha256,
)
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root]

LAYER = tar(("etc/hello", b"hello\n" * 100_000))
NAME_BYTES = 4096


def pulled(address: str, answer: Answer) -> str:
    """The error of a pull of which everything must fail."""
    found: list[str] = []

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            lines = await b.pull(f"{registry.address}/hostile", "1")
            found.append(lines[-1]["error"])
            assert await b.images.list({}) == []

    on(address, body)
    return found[0]


def instead(image: ScriptedImage, layer: bytes) -> Answer:
    """As the registry of `image`, with another answer for its layer."""

    def answer(asked: Asked) -> bytes:
        if asked.path.endswith(sha256(image.layer)):
            return layer
        return image.answer(asked)

    return answer


@pytest.mark.parametrize("length", [len(LAYER) + 1, len(LAYER) * 1000])
def test_a_length_that_is_a_lie(address: str, length: int) -> None:
    image = scripted_image(LAYER)
    error = pulled(address, instead(image, response(200, image.layer, length=length)))
    assert "its descriptor says" in error


@pytest.mark.parametrize(
    "name",
    ["a" * 300, "/".join(["d" * 200] * 25), "x" * (NAME_BYTES + 1)],
    ids=["a long part", "a long path", "longer than any path"],
)
def test_names_that_no_file_system_takes(address: str, name: str) -> None:
    error = pulled(address, scripted_image(tar((name, b"x"))).answer)
    assert "\n" not in error
    assert len(error) < 1000


def test_the_last_of_two_members_counts_as_with_go(address: str) -> None:
    """One reading of a document, the same as that of every other tool."""
    image = scripted_image(LAYER)
    manifest = image.manifest.replace(b'"layers"', b'"layers": [], "layers"', 1)
    twice = ScriptedImage(manifest, image.config, image.layer)

    async def body(b: Bench) -> None:
        async with scripted_registry(twice.answer) as registry:
            await b.pull(f"{registry.address}/twice", "1")
            assert (await b.images.resolve(f"{registry.address}/twice:1")).diff_ids

    on(address, body)


def test_a_disk_that_is_full_halfway() -> None:
    """Told, nothing half visible; and a small image still goes in."""
    with containerd("ours", disk_bytes=48 << 20) as address:

        async def body(b: Bench) -> None:
            big = docker_archive("big:1", tar(("noise", os.urandom(40 << 20))))
            lines = await b.load(big)
            assert "no space left on device" in lines[-1]["error"].lower()
            assert await b.images.list({}) == []
            await b.load(docker_archive("small:1", LAYER))
            assert (await b.images.resolve("small:1")).size > 0

        on(address, body)


@pytest.mark.timeout(300)
def test_a_directory_of_many_entries(address: str) -> None:
    """Nothing is quadratic, and all are there."""
    count = 100_000
    headers = (tarfile.TarInfo(f"d/{number}") for number in range(count))
    archive = b"".join(header.tobuf(tarfile.USTAR_FORMAT) for header in headers) + bytes(1024)

    async def body(b: Bench) -> None:
        lines = await b.lines(
            lambda progress: b.images.import_(pieces(archive), "many", "1", "", [], None, progress)
        )
        assert "error" not in lines[-1]
        shown = await b.images.show("many:1", entries=False)
        assert shown["Layers"][0]["Added"] == count

    on(address, body)
