"""The shim on pure cgroup version 2: out of memory, metrics, and checkpoint and restore by criu."""

import pytest

from tests.support import rootfs
from tests.support.shim import Shims, eventually, shims

pytestmark = [pytest.mark.root, pytest.mark.peer]
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done"


def counted(it: Shims, name: str) -> list[int]:
    log = it.root / name
    return [int(word) for word in log.read_text().split()] if log.exists() else []


def test_a_task_goes_on_from_its_checkpoint() -> None:
    with shims() as it:
        images = it.root / "images"
        one = it.start("one", rootfs.config("sh", "-c", COUNT))
        one.create(stdout=f"file://{it.root}/first")
        one.call("Start")
        eventually(lambda: len(counted(it, "first")) > 3, "it counts")
        one.call("Checkpoint", path=str(images))
        before = len(counted(it, "first"))
        eventually(lambda: len(counted(it, "first")) > before, "it goes on")
        it.events.wait("/tasks/checkpointed", container_id="one", checkpoint=str(images))
        one.call("Kill", signal=9)
        assert one.call("Wait")["exit_status"] == 137
        one.end()
        two = it.start("two", rootfs.config("sh", "-c", COUNT))
        assert two.create(stdout=f"file://{it.root}/second", checkpoint=str(images)) == 0
        assert two.call("Start")["pid"] > 0
        eventually(lambda: len(counted(it, "second")) > 3, "it counts again")
        numbers = counted(it, "second")
        assert numbers[0] > 3
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        two.call("Kill", signal=9)
        assert two.call("Wait")["exit_status"] == 137
        two.end()


def test_out_of_memory_is_told() -> None:
    with shims() as it:
        spec = rootfs.config("sh", "-c", "x=a; while :; do x=$x$x; done")
        spec["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
        shim = it.start("one", spec)
        shim.create()
        shim.call("Start")
        assert shim.call("Wait")["exit_status"] == 137
        it.events.wait("/tasks/oom", container_id="one")
        shim.end()
