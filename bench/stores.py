"""containerd with much in it: 10,000 images and 50,000 blobs, beside an empty one and Debian's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from barque.containerd import references as edges
from barque.containerd.client import Containerd
from barque.containerd.client.images import Image
from barque.containerd.content.store import ContentStore
from barque.containerd.metadata import Metadata, encode_labels
from barque.containerd.paths import ContentPaths, Paths
from barque.oci.image import OCI_MANIFEST
from bench.images import LAYER_BYTES, LAYERS, layer, layout
from bench.measure import Figure, interleaved
from tests.support.node import IMAGE, OURS, Node, node

IMAGES, BLOBS = 10_000, 50_000
BATCH = 1000
ROUNDS, STARTS = 9, 5
BASE = "/var/tmp"  # on a disk
NAMESPACE = "default"


def fill(root: Path) -> None:
    """The store below `root`, whose server does not run, as clients would have filled it."""
    paths = Paths(root, root)
    metadata = Metadata(paths.database)
    references = edges.References(metadata)
    content = ContentPaths(paths.content)
    ContentStore(metadata, references, content)
    per_image = BLOBS // IMAGES
    for start in range(0, IMAGES, BATCH):
        with metadata.transaction():
            for number in range(start, start + BATCH):
                _image(metadata, references, content, number, per_image)
    metadata.checkpoint()
    metadata.close()


def _image(
    metadata: Metadata,
    references: edges.References,
    content: ContentPaths,
    number: int,
    blobs: int,
) -> None:
    digests: list[str] = []
    labels: dict[str, str] = {}
    for at in range(blobs):
        data = b"%d/%d" % (number, at)
        digests.append("sha256:" + hashlib.sha256(data).hexdigest())
        Path(content.blob(digests[-1])).write_bytes(data)
        if at == blobs - 1:
            labels = {f"containerd.io/gc.ref.content.l.{n}": d for n, d in enumerate(digests[:-1])}
        metadata.execute(
            "INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)",
            *(NAMESPACE, digests[-1], len(data), encode_labels(labels), 1, 1),
        )
    references.set(edges.Node(NAMESPACE, edges.CONTENT, digests[-1]), labels)
    name = f"example.com/image{number}:latest"
    target = digests[-1]
    metadata.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, '{}', '{}', 1, 1)",
        *(NAMESPACE, name, OCI_MANIFEST, target, 10),
    )
    references.set(edges.Node(NAMESPACE, "image", name), {}, [(edges.CONTENT, target)])


@contextmanager
def filled() -> Iterator[Node]:
    with node("ours", BASE) as it:
        it.stop()
        fill(it.root / "root")
        it.start()
        yield it


def _run(it: Node) -> None:
    done = it.run("bench", "true", runtime=OURS, flags=("--rm",))
    assert done.returncode == 0, done.stderr


def _list(it: Node) -> None:
    it.ctr("containers", "ls")


def _restart(it: Node) -> None:
    it.stop(signal.SIGKILL)
    it.start()


def _collect(it: Node) -> None:
    """One image more, and its removal until what it held is gone."""
    it.ctr("images", "tag", "--force", IMAGE, "example.com/one:more")
    it.ctr("images", "rm", "--sync", "example.com/one:more")


def scale() -> Iterator[Figure]:
    with node("ours", BASE) as empty, filled() as full:
        for name, call, rounds in (
            ("ctr run --rm", _run, 25),
            ("ctr containers ls", _list, ROUNDS),
            ("collect an image", _collect, ROUNDS),
            ("start after a crash", _restart, STARTS),
        ):
            contenders = {"full": partial(call, full), "empty": partial(call, empty)}
            found = interleaved(contenders, rounds)
            what = f"{name}, {IMAGES} images and {BLOBS} blobs / empty"
            yield Figure(what, found["full"], found["empty"], "ms", 1.2)


def lists() -> Iterator[Figure]:
    """Names of one image, made by the same calls on both."""
    with node("ours", BASE) as ours, node("real", BASE) as theirs:
        for it in (ours, theirs):
            asyncio.run(_fill_names(it))
        found = interleaved(
            {
                "ours": lambda: ours.ctr("images", "ls", "-q"),
                "theirs": lambda: theirs.ctr("images", "ls", "-q"),
            },
            ROUNDS,
        )
        yield Figure(f"list of {IMAGES} images", found["ours"], found["theirs"], "ms", 1.0)


async def _fill_names(it: Node) -> None:
    containerd = await Containerd.connect(it.address, NAMESPACE)
    target = (await containerd.images.get(IMAGE)).target
    turn = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        async with turn:
            await containerd.images.create(Image(f"example.com/image{number}:latest", target))

    await asyncio.gather(*map(one, range(IMAGES)))
    containerd.close()


def imports() -> Iterator[Figure]:
    scratch = Path(tempfile.mkdtemp(prefix="bq-", dir=BASE))
    try:
        archive = scratch / "big.tar"
        layout(archive, [layer(number) for number in range(LAYERS)])
        with node("ours", BASE) as ours, node("real", BASE) as theirs:
            times: dict[str, list[float]] = {"ours": [], "real": []}
            for _ in range(4):
                for it in (ours, theirs):
                    times[it.kind].append(_imported(it, archive))
            best = {kind: sorted(found)[len(found) // 2] for kind, found in times.items()}
            what = f"ctr images import of {LAYERS * LAYER_BYTES >> 20} MB, unpacked"
            yield Figure(what, best["ours"], best["real"], "ms", 0.7)
    finally:
        shutil.rmtree(scratch)


def _imported(it: Node, archive: Path) -> float:
    os.sync()
    before = time.perf_counter()
    subprocess.run(
        ["ctr", "--address", it.address, "images", "import", str(archive)],
        check=True,
        capture_output=True,
    )
    took = (time.perf_counter() - before) * 1000
    names = it.ctr("images", "ls", "-q").stdout.split()
    it.ctr("images", "rm", "--sync", *[name for name in names if name != IMAGE])
    return took


def figures() -> Iterator[Figure]:
    yield from imports()
    yield from lists()
    yield from scale()
