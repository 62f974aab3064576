"""A container in a user namespace on a snapshot that is seen with its ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.containers import Container
from barque.containerd.client.tasks import RuntimeOptions, Stdio
from barque.containerd.snapshots.remapping import GID_LABEL, UID_LABEL
from tests.support import rootfs
from tests.support.node import OURS, RUNC, Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
ROOT = {"containerd.io/gc.root": "yes"}  # nothing else holds them
IDS = {UID_LABEL: "0:100000:65536", GID_LABEL: "0:200000:65536"}
SCRIPT = """set -e
stat -c %u:%g / /bin/busybox >/said
cat /proc/self/uid_map >>/said
chown 7:8 /bin/busybox
stat -c %u:%g /bin/busybox >>/said
"""


@pytest.fixture(scope="module")
def ours() -> Iterator[Node]:
    with node() as it:
        it.root.chmod(0o711)  # root of the user namespace walks through
        yield it


async def remapped(it: Node, runtime: str, options: RuntimeOptions) -> tuple[list[str], str]:
    """What a container said of its files, and who owns one of them for the node."""
    containerd = await Containerd.connect(it.address, "remapped")
    try:
        base = await containerd.snapshots.prepare("new", "", ROOT)
        rootfs.build(Path(base[0].source))
        await containerd.snapshots.commit("base", "new", ROOT)
        mounts = await containerd.snapshots.prepare("task", "base", {**ROOT, **IDS})
        upper = dict(option.partition("=")[::2] for option in mounts[0].options)["upperdir"]
        await containerd.containers.create(
            Container(id="task", spec=json.dumps(spec(it)).encode(), runtime=runtime)
        )
        try:
            await containerd.tasks.create("task", mounts, Stdio(), options)
            await containerd.tasks.start("task")
            assert (await containerd.tasks.wait("task")).code == 0
            await containerd.tasks.delete("task")
            seen = Path(upper, "bin/busybox").stat()
            return Path(upper, "said").read_text().split("\n"), f"{seen.st_uid}:{seen.st_gid}"
        finally:
            await containerd.containers.delete("task")
            await containerd.snapshots.remove("task")
            await containerd.snapshots.remove("base")
    finally:
        containerd.close()


def spec(it: Node) -> dict[str, object]:
    made = rootfs.config("sh", "-c", SCRIPT)
    for kind in ("bounding", "effective", "permitted"):
        made["process"]["capabilities"][kind].append("CAP_CHOWN")
    linux = made["linux"]
    linux["cgroupsPath"] = f"/{it.word}/task"
    linux["namespaces"] = [*linux["namespaces"], {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    return made


@pytest.mark.parametrize("binary", ["", "runc"])
def test_a_container_owns_what_is_below_it(ours: Node, binary: str) -> None:
    options = RuntimeOptions(root=f"{ours.root}/runtime", binary_name=binary)
    said, seen = asyncio.run(remapped(ours, OURS, options))
    assert [line.split() for line in said if line] == [
        *(["0:0"], ["0:0"], ["0", "100000", "65536"], ["7:8"]),
    ]
    assert seen == "100007:200008"


def test_a_shim_that_knows_nothing_of_it_says_so(ours: Node) -> None:
    """Debian's is older than containerd's options for that."""
    options = RuntimeOptions(root=f"{ours.root}/runtime")
    with pytest.raises(errors.BarqueError, match="invalid argument"):
        asyncio.run(remapped(ours, RUNC, options))
