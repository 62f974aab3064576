"""Archives that lie, lead out, or are not what they say: one clear error, and nothing stays.

CVE-2014-6407, CVE-2014-9356, CVE-2014-9357, CVE-2014-9358, CVE-2014-8178.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import random
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.oci import digest as digests
from barque.oci import image as oci
from tests.support.images import bench, link, tar
from tools.busybox_image import docker_archive, image_config

pytestmark = pytest.mark.root

LAYER = tar(("etc/hello", b"hello\n"))
CONFIG = image_config(LAYER)


def failure(address: str, archive: bytes) -> str:
    """The one error of a load; asserts that nothing is left of it."""

    async def run() -> str:
        async with bench(address) as b:
            try:
                lines = await b.load(archive)
            except errors.BarqueError as error:
                message = str(error)
            else:
                message = lines[-1].get("error", "")
            assert message, f"loaded: {lines}"
            assert await b.remains() == {}
            assert await b.images.list({}) == []
            return message

    return asyncio.run(run())


def archive(*entries: Any, **manifest: Any) -> bytes:
    document = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"], **manifest}
    return tar(*entries, ("manifest.json", json.dumps([document]).encode()))


GOOD = (("c.json", CONFIG), ("l.tar", LAYER))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        bytes(10240),
        os.urandom(2000),
        gzip.compress(b"junk", mtime=0),
        gzip.compress(docker_archive("a:1", LAYER), mtime=0)[:-20],
        docker_archive("a:1", LAYER)[:1500],
        tar(("nothing", b"of use")),
        archive(),
        archive(("c.json", CONFIG)),
        archive(("l.tar", LAYER)),
        archive(("c.json", b"{}"), ("l.tar", LAYER)),
        archive(("c.json", b"[]"), ("l.tar", LAYER)),
        archive(*GOOD, Layers=["l.tar", "l.tar"]),
        archive(*GOOD, Layers=[]),
        archive(*GOOD, RepoTags=["../../../etc/passwd:1"]),
        archive(*GOOD, RepoTags=["a"]),
        archive(*GOOD, Config="../../../../etc/hostname"),
        archive(*GOOD, Layers=["../../../../etc/passwd"]),
        archive(("c.json", CONFIG), link("l.tar", "/etc/passwd")),
        archive(("c.json", CONFIG), link("l.tar", "../../../../etc/passwd")),
        archive(("c.json", CONFIG), link("l.tar", "l.tar")),
        archive(("c.json", CONFIG), link("l.tar", "m.tar"), link("m.tar", "l.tar")),
        archive(link("c.json", "/etc/hostname", tarfile.LNKTYPE), ("l.tar", LAYER)),
        archive(("c.json", CONFIG), ("l.tar", b"\xfd7zXZ\x00" + bytes(20))),
        archive(("c.json", CONFIG), ("l.tar", b"not a tar at all")),
        archive(("c.json", CONFIG), ("l.tar", LAYER + b"x" * 512)),
        tar(("manifest.json", b"[]")),
        tar(("manifest.json", b"[" * 100_000)),
        tar(("manifest.json", b'{"a": 1}')),
        tar(("manifest.json", b"\xff")),
    ],
)
def test_a_bad_archive_is_one_clear_error(address: str, data: bytes) -> None:
    message = failure(address, data)
    assert message.isprintable()
    assert len(message) < 500
    assert "Traceback" not in message
    assert "internal error" not in message


def test_a_layer_that_is_not_its_diff_id_is_refused(address: str) -> None:
    other = tar(("etc/hello", b"HELLO\n"))
    message = failure(address, archive(("c.json", CONFIG), ("l.tar", other)))
    assert "unpacks to" in message


def layout(**changes: bytes) -> bytes:
    """An OCI layout of one image, with some of its blobs exchanged by `changes`."""
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": described(oci.OCI_CONFIG, CONFIG),
            "layers": [described(oci.OCI_LAYER, LAYER)],
        }
    ).encode()
    entry = {
        **described(oci.OCI_MANIFEST, manifest),
        "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/a:1"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs = {"manifest": manifest, "config": CONFIG, "layer": LAYER}
    members = [
        (f"blobs/sha256/{digests.sha256(raw).removeprefix('sha256:')}", changes.get(name, raw))
        for name, raw in blobs.items()
    ]
    return tar(
        ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
        ("index.json", changes.get("index", index)),
        *members,
    )


def described(media_type: str, raw: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digests.sha256(raw), "size": len(raw)}


def test_an_oci_layout_is_loaded(address: str) -> None:
    async def run() -> None:
        async with bench(address) as b:
            assert await b.load(layout()) == [{"stream": "Loaded image: a:1\n"}]
            assert (await b.images.resolve("a:1")).id == digests.sha256(CONFIG)

    asyncio.run(run())


@pytest.mark.parametrize("blob", ["manifest", "config", "layer", "index"])
@pytest.mark.parametrize("kind", ["empty", "other", "huge"])
def test_a_blob_that_is_not_its_digest_is_refused(address: str, blob: str, kind: str) -> None:
    other = {"empty": b"", "other": b'{"schemaVersion": 2}', "huge": b" " * (9 << 20)}[kind]
    failure(address, layout(**{blob: other}))


HOSTILE_LAYERS = {
    "parent": tar(("../CANARY", b"x")),
    "deep parent": tar(("a/../../../../../../../../CANARY", b"x")),
    "absolute": tar(("CANARY_PATH", b"x")),
    "through a link": tar(link("out", "/tmp"), ("out/CANARY_NAME", b"x")),
    "through a link to parents": tar(
        link("out", "../../../../../../tmp"), ("out/CANARY_NAME", b"x")
    ),
    "hard link out": tar(link("h", "/etc/passwd", tarfile.LNKTYPE)),
    "whiteout of parents": tar((".wh...", b"")),
    "whiteout through a link": tar(link("out", "/tmp"), ("out/.wh.CANARY_NAME", b"")),
    "root is a link": tar(link(".", "/tmp"), ("CANARY_NAME", b"x")),
}


@pytest.mark.parametrize("kind", HOSTILE_LAYERS)
def test_a_layer_stays_inside(address: str, kind: str, tmp_path: Path) -> None:
    """Either refused, or unpacked within its own root: the host is untouched both ways."""
    canary = Path(f"/tmp/bq-canary-{os.getpid()}")
    victim = Path(f"/tmp/bq-victim-{os.getpid()}")
    victim.write_text("alive")
    raw = HOSTILE_LAYERS[kind]
    raw = _renamed(
        raw, {"CANARY_PATH": str(canary), "CANARY_NAME": canary.name, "CANARY": canary.name}
    )
    if "whiteout" in kind:
        raw = _renamed(raw, {canary.name: victim.name})

    async def run() -> None:
        async with bench(address) as b:
            with suppress(errors.BarqueError):
                await b.import_(raw, "hostile", "1")

    try:
        asyncio.run(run())
        assert not canary.exists()
        assert victim.read_text() == "alive"
    finally:
        victim.unlink()
        canary.unlink(missing_ok=True)


def _renamed(raw: bytes, words: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(raw)) as source,
        tarfile.open(fileobj=buffer, mode="w") as target,
    ):
        for entry in source:
            data = source.extractfile(entry) if entry.isreg() else None
            for word, replacement in words.items():
                entry.name = entry.name.replace(word, replacement, 1)
            target.addfile(entry, data)
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(8))
def test_damaged_archives_load_whole_or_not_at_all(address: str, seed: int) -> None:
    """Bytes changed, cut out, doubled: what loads is what it says, the rest is one clear error."""
    chance = random.Random(seed)
    sources = [docker_archive("a:1", LAYER), layout(), gzip.compress(layout())]

    async def run() -> None:
        async with bench(address) as b:
            for _ in range(12):
                data = bytearray(chance.choice(sources))
                for _ in range(chance.randint(1, 4)):
                    at = chance.randrange(len(data))
                    step = chance.randrange(3)
                    if step == 0:
                        data[at] ^= 1 << chance.randrange(8)
                    elif step == 1:
                        del data[at : at + chance.randrange(600)]
                    else:
                        data[at:at] = data[at : at + chance.randrange(600)]
                with suppress(*errors.BarqueError.__subclasses__()):  # not the root: our kinds
                    lines = await b.load(bytes(data))
                    assert "internal error" not in lines[-1].get("error", "")
            for summary in await b.images.list({}):
                image = await b.images.resolve(summary["Id"])
                assert digests.sha256(image.raw_config) == image.id
                await b.images.remove(image.id, force=True)
            assert await b.remains() == {}

    asyncio.run(run())
