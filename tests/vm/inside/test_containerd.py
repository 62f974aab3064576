"""Checkpoint and restore by criu through containerd, as `ctr` asks for them.

`BARQUE_VM=all` has Debian's containerd and shim do the same, in emulation's own time.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.node import OURS, RUNC, Node, node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done"
LIMIT_S = 60.0
PEERS = [("ours", RUNC), ("real", RUNC)] if os.environ.get("BARQUE_VM") == "all" else []


@pytest.fixture(params=[("ours", OURS), *PEERS])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    kind, runtime = request.param
    with node(kind) as it:
        yield it, runtime


def counted(it: Node, id: str) -> int:
    done = it.ctr("task", "exec", "--exec-id", "look", id, "cat", "/count", check=False)
    return int(done.stdout.strip() or 0)


def test_a_container_goes_on_as_another(pair: tuple[Node, str]) -> None:
    it, runtime = pair
    it.run("one", "sh", "-c", COUNT, runtime=runtime, flags=("-d", "--null-io"))
    assert wait_until(lambda: counted(it, "one") > 3, LIMIT_S)
    it.ctr("containers", "checkpoint", "--rw", "--image", "--task", "one", "saved")
    before = counted(it, "one")
    assert wait_until(lambda: counted(it, "one") > before, LIMIT_S)  # it goes on
    it.end("one")
    it.ctr("containers", "restore", "--rw", "--live", "two", "saved")
    assert wait_until(lambda: counted(it, "two") > before, LIMIT_S)
    assert it.tasks()["two"] == "RUNNING"
    it.end("two")
    if it.kind == "ours":
        assert list(it.root.glob("root/checkpoints/*/*")) == []
