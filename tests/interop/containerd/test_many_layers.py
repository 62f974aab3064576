"""A root filesystem of more layers than fit a page of mount options, on ours and on Debian's."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.containers import Container
from barque.containerd.client.tasks import RuntimeOptions, Stdio
from tests.support import rootfs
from tests.support.node import OURS, RUNC, Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer]
LAYERS = 95
ROOT = {"containerd.io/gc.root": "yes"}  # nothing else holds them
NAMESPACE = "layers"


@pytest.fixture(params=[("ours", OURS), ("ours", RUNC), ("real", RUNC)])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    kind, runtime = request.param
    with node(kind, "/dev/shm") as it:  # what is committed there need not reach a disk
        yield it, runtime


def test_each_layer_is_seen(pair: tuple[Node, str]) -> None:
    it, runtime = pair

    async def main() -> None:
        containerd = await Containerd.connect(it.address, NAMESPACE)
        try:
            await run(containerd, it, runtime)
        finally:
            containerd.close()

    asyncio.run(main())


async def run(containerd: Containerd, it: Node, runtime: str) -> None:
    parent = ""
    for number in range(1, LAYERS + 1):
        mounts = await containerd.snapshots.prepare(f"new{number}", parent, ROOT)
        options = dict(option.partition("=")[::2] for option in mounts[0].options)
        upper = Path(options.get("upperdir") or mounts[0].source)
        if not parent:
            shutil.copytree(
                rootfs.build(it.root / "rootfs"), upper, symlinks=True, dirs_exist_ok=True
            )
        (upper / f"layer{number}").write_text(f"{number}\n")
        (upper / "top").write_text(f"{number}\n")
        parent = f"layer{number}"
        await containerd.snapshots.commit(parent, f"new{number}", ROOT)
    mounts = await containerd.snapshots.prepare("task", parent, ROOT)
    assert sum(len(option) for option in mounts[0].options) > 4096
    options = dict(option.partition("=")[::2] for option in mounts[0].options)
    script = f"cat /layer1 /layer{LAYERS} /top >/said"
    spec = rootfs.config("sh", "-c", script)
    spec["linux"]["cgroupsPath"] = f"/{it.word}/task"
    await containerd.containers.create(
        Container(id="task", spec=json.dumps(spec).encode(), runtime=runtime)
    )
    runtime_options = RuntimeOptions(root=f"{it.root}/runtime")
    await containerd.tasks.create("task", mounts, Stdio(), runtime_options)
    await containerd.tasks.start("task")
    assert (await containerd.tasks.wait("task")).code == 0
    said = Path(options["upperdir"], "said").read_text()
    assert said.split() == ["1", str(LAYERS), str(LAYERS)]
    await containerd.tasks.delete("task")
    await containerd.containers.delete("task")
    await containerd.snapshots.remove("task")
    for number in range(LAYERS, 0, -1):
        await containerd.snapshots.remove(f"layer{number}")
