"""A pod by the sandboxer "podsandbox": a task, whose containers share its namespaces and shim."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.errors import AlreadyExists, BarqueError, InvalidArgument, NotFound, Unsupported
from tests.support import rootfs
from tests.support.node import Node, alive, node, parent
from tests.support.pods import NAMESPACE, Pods, run

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        rootfs.build(made.root / "rootfs")
        yield made


def test_a_pod_from_create_to_shutdown(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await client.made("pod")
        assert alive(pid)
        status = await client.controller("Status", sandbox_id="pod", verbose=True)
        assert (status.state, status.pid, status.info["task"]) == ("SANDBOX_READY", pid, "running")
        assert status.address.startswith("ttrpc+unix://")
        assert status.created_at.seconds > 1_700_000_000
        platform = await client.controller("Platform", sandbox_id="pod")
        assert platform.platform.os == "linux"
        metrics = await client.controller("Metrics", sandbox_id="pod")
        assert metrics.metrics.data.type_url.endswith("Metrics")
        waiting = asyncio.create_task(client.controller("Wait", sandbox_id="pod"))
        await client.controller("Stop", sandbox_id="pod", timeout_secs=1)
        assert (await waiting).exit_status == 137  # the first of a pid namespace hears no SIGTERM
        status = await client.controller("Status", sandbox_id="pod")
        assert (status.state, status.exited_at.seconds > 0) == ("SANDBOX_NOTREADY", True)
        await client.controller("Stop", sandbox_id="pod")
        await client.gone("pod")
        await client.controller("Shutdown", sandbox_id="pod")
        with pytest.raises(NotFound, match='sandbox "pod"'):
            await client.controller("Status", sandbox_id="pod")

    run(it, check)


def test_what_is_told(it: Node) -> None:
    async def check(client: Pods) -> None:
        async with client.told("^/sandboxes/") as following:
            await client.made("told")
            await client.gone("told")
            topics = [(await following()).topic for _ in range(3)]
        assert topics == ["/sandboxes/create", "/sandboxes/start", "/sandboxes/exit"]

    run(it, check)


def test_containers_of_a_pod_share_its_shim_and_namespaces(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await client.made("shared")
        found = []
        for name in ("web", "side"):
            spec = rootfs.config("sleep", "1000")
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] in ("ipc", "uts"):
                    namespace["path"] = f"/proc/{pid}/ns/{namespace['type']}"
            found.append(await client.container(name, "shared", spec))
        assert {parent(one) for one in found} == {parent(pid)}
        for one in found:
            assert os.readlink(f"/proc/{one}/ns/ipc") == os.readlink(f"/proc/{pid}/ns/ipc")
        await client.controller("Shutdown", sandbox_id="shared")
        assert all(map(alive, found))  # they are tasks of their own
        for name in ("web", "side"):
            await client.containerd.tasks.kill(name, 9)
            await client.containerd.tasks.wait(name)
            await client.containerd.tasks.delete(name)
            await client.containerd.containers.delete(name)
        await client.store("Delete", sandbox_id="shared")

    run(it, check)


def test_a_sandbox_outlives_the_server(it: Node) -> None:
    async def make(client: Pods) -> None:
        pids.append(await client.made("kept"))

    async def look(client: Pods) -> None:
        status = await client.controller("Status", sandbox_id="kept")
        assert (status.pid, status.state) == (pids[0], "SANDBOX_READY")
        assert [one.sandbox_id for one in (await client.store("List")).list] == ["kept"]
        await client.gone("kept")

    pids: list[int] = []
    run(it, make)
    it.crash()
    it.start()
    run(it, look)


def test_records(it: Node) -> None:
    async def check(client: Pods) -> None:
        made = client.record("one", labels={"a": "1", "b": "2"})
        answer = await client.store("Create", sandbox=made)
        assert answer.sandbox.created_at == answer.sandbox.updated_at
        with pytest.raises(AlreadyExists):
            await client.store("Create", sandbox=made)
        changed = Sandbox(sandbox_id="one", labels={"a": "3", "b": "4"})
        changed.extensions["x"].value = b"y"
        answer = await client.store("Update", sandbox=changed, fields=["labels.a", "extensions.x"])
        assert dict(answer.sandbox.labels) == {"a": "3", "b": "2"}
        assert answer.sandbox.extensions["x"].value == b"y"
        assert answer.sandbox.spec == made.spec
        for fields in (["sandbox_id"], ["spec.x"]):
            with pytest.raises(InvalidArgument):
                await client.store("Update", sandbox=changed, fields=fields)
        for words, count in (("labels.a==3", 1), ("labels.a==1", 0), ("id==one", 1)):
            assert len((await client.store("List", filters=[words])).list) == count
        await client.store("Delete", sandbox_id="one")
        with pytest.raises(NotFound):
            await client.store("Get", sandbox_id="one")

    run(it, check)


def test_what_is_refused(it: Node) -> None:
    async def check(client: Pods) -> None:
        bare = Sandbox(sandbox_id="bare")
        for sandbox, kind in (
            (Sandbox(sandbox_id="../x"), InvalidArgument),
            (bare, InvalidArgument),
        ):
            with pytest.raises(kind):
                await client.controller("Create", sandbox_id=sandbox.sandbox_id, sandbox=sandbox)
        with pytest.raises(NotFound, match="controller 'other'"):
            await client.controller("Create", sandbox_id="x", sandboxer="other")
        with pytest.raises(NotFound, match='sandbox "x"'):
            await client.controller("Create", sandbox_id="x")
        broken = client.record("broken", "no-such-program")
        with pytest.raises(BarqueError, match="no-such-program"):
            await client.controller("Create", sandbox_id="broken", sandbox=broken)
        await client.made("one")
        with pytest.raises(Unsupported, match="updating the running sandbox"):
            await client.controller("Update", sandbox_id="one")
        with pytest.raises(AlreadyExists):
            await client.controller("Create", sandbox_id="one")
        await client.gone("one")

    run(it, check)
    tasks = Path(it.root / "state/io.containerd.runtime.v2.task" / NAMESPACE)
    assert [path.name for path in tasks.iterdir() if not path.name.startswith(".")] == []
