"""A pod by the sandboxer "shim": of our own shim, and of another that is made from the protocol."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.proto.runc_options_pb2 import Options
from barque.containerd.proto.sandbox_shim_pb2 import CreateSandboxRequest
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.errors import AlreadyExists, BarqueError, NotFound, Unsupported
from tests.support import rootfs, shim_double
from tests.support.node import OURS, Node, alive, node, parent
from tests.support.pods import NAMESPACE, Pods
from tests.support.pods import run as run_with
from tests.support.shim import eventually

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
SHIM = "shim"
OTHERS = ("plain", "json3", "grpc")


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        rootfs.build(made.root / "rootfs")
        for kind in OTHERS:
            shim_double.install(made.root, kind)
        try:
            yield made
        finally:
            end_sandboxes(made)


def end_sandboxes(it: Node) -> None:
    """What a test that has failed left running."""
    left = bundles(it, "io.containerd.sandbox.controller.v1.shim")

    async def end(client: Pods) -> None:
        for path in left:
            await client.controller("Shutdown", sandbox_id=path.name)

    if left:
        if it.process is None:
            it.start()
        run_with(it, end, SHIM)


@pytest.fixture(params=["ours", *OTHERS])
def runtime(request: pytest.FixtureRequest, it: Node) -> str:
    kind: str = request.param
    return OURS if kind == "ours" else str(it.root / f"containerd-shim-{kind}-v1")


def run(it: Node, check: Any, runtime: str = OURS) -> None:
    async def prepared(client: Pods) -> None:
        client.runtime = runtime
        await check(client)

    run_with(it, prepared, SHIM)
    left = [*bundles(it, "io.containerd.sandbox.controller.v1.shim")]
    left += bundles(it, "io.containerd.runtime.v2.task")
    assert left == []


def bundles(it: Node, kind: str) -> list[Path]:
    directory = it.root / "state" / kind / NAMESPACE
    found = directory.iterdir() if directory.is_dir() else ()
    return [path for path in found if not path.name.startswith(".")]


def bundle(it: Node, id: str) -> Path:
    return it.root / "state/io.containerd.sandbox.controller.v1.shim" / NAMESPACE / id


def working_in(directory: Path) -> list[Path]:
    """The processes whose working directory it is, or was before it was hidden."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            place = Path(os.readlink(process / "cwd"))
            if place.parent == directory.parent and directory.name in place.name:
                found.append(process)
    return found


def record(it: Node, client: Pods, id: str, **more: Any) -> Sandbox:
    """A sandbox whose spec says where it belongs and names no program."""
    names = ("pid", "network", "ipc", "uts", "mount")
    kinds = [{"type": kind} for kind in names]
    spec = {"linux": {"namespaces": kinds, "cgroupsPath": f"/{it.word}/{id}"}}
    value = AnyMessage(type_url="types.containerd.io/spec", value=json.dumps(spec).encode())
    made = Sandbox(sandbox_id=id, spec=value, sandboxer=SHIM, **more)
    made.runtime.name = client.runtime
    options = Options(root=f"{it.root}/runtime")
    made.runtime.options.type_url = "containerd.runc.v1.Options"
    made.runtime.options.value = options.SerializeToString()
    return made


async def made(it: Node, client: Pods, id: str) -> int:
    await client.store("Create", sandbox=record(it, client, id))
    await client.controller("Create", sandbox_id=id)
    pid: int = (await client.controller("Start", sandbox_id=id)).pid
    return pid


def in_pod(pid: int) -> dict[str, Any]:
    """A container's spec in the namespaces of the pod that `pid` holds."""
    spec = rootfs.config("sleep", "1000")
    names = {"network": "net", "ipc": "ipc", "uts": "uts"}
    for one in spec["linux"]["namespaces"]:
        if one["type"] in names:
            one["path"] = f"/proc/{pid}/ns/{names[one['type']]}"
    del spec["hostname"]
    return spec


def test_a_pod_from_create_to_shutdown(it: Node, runtime: str) -> None:
    async def check(client: Pods) -> None:
        pid = await made(it, client, "pod")
        assert alive(pid)
        status = await client.controller("Status", sandbox_id="pod", verbose=True)
        assert (status.sandbox_id, status.state, status.pid) == ("pod", "SANDBOX_READY", pid)
        protocol = "grpc" if "grpc" in runtime else "ttrpc"
        assert status.address.startswith(f"{protocol}+unix:///")
        assert status.created_at == (await client.controller("Status", sandbox_id="pod")).created_at
        waiting = asyncio.create_task(client.controller("Wait", sandbox_id="pod"))
        await client.controller("Stop", sandbox_id="pod", timeout_secs=20)
        ended = await waiting
        assert ended.exit_status == 137
        assert ended.exited_at.seconds > 1_700_000_000
        assert not alive(pid)
        status = await client.controller("Status", sandbox_id="pod")
        assert status.state == "SANDBOX_NOTREADY"
        await client.gone("pod")
        await client.controller("Shutdown", sandbox_id="pod")
        with pytest.raises(NotFound, match='sandbox "pod": not found'):
            await client.controller("Status", sandbox_id="pod")

    run(it, check, runtime)


def test_the_shim_is_asked_what_it_knows_alone(it: Node) -> None:
    async def check(client: Pods) -> None:
        made = record(it, client, "asked")
        await client.controller(
            "Create",
            sandbox_id="asked",
            sandbox=made,
            netns_path="/run/netns/some",
            annotations={"a": "b"},
            options=AnyMessage(type_url="test.Options", value=b"x"),
        )
        await client.controller("Start", sandbox_id="asked")
        platform = (await client.controller("Platform", sandbox_id="asked")).platform
        assert (platform.os, platform.architecture) == ("linux", "of the double")
        metrics = (await client.controller("Metrics", sandbox_id="asked")).metrics
        assert metrics.id == "of the double"
        status = await client.controller("Status", sandbox_id="asked", verbose=True)
        assert dict(status.info) == {"kind": "double"}
        assert (status.extra.type_url, status.version) == ("test.Extra", 3)
        with pytest.raises(Unsupported, match="updating the running sandbox"):
            await client.controller("Update", sandbox_id="asked")
        lines = (bundle(it, "asked") / "asked").read_text().splitlines()
        method, payload = lines[0].split()
        assert method == "CreateSandbox"
        request = CreateSandboxRequest.FromString(bytes.fromhex(payload))
        assert (request.sandbox_id, request.bundle_path) == ("asked", str(bundle(it, "asked")))
        assert (request.netns_path, dict(request.annotations)) == ("/run/netns/some", {"a": "b"})
        assert (request.options.type_url, request.options.value) == ("test.Options", b"x")
        config = (bundle(it, "asked") / "config.json").read_bytes()
        assert config == made.spec.value
        await client.controller("Shutdown", sandbox_id="asked")

    run(it, check, str(it.root / "containerd-shim-json3-v1"))


def test_each_thing_is_told_once(it: Node, runtime: str) -> None:
    async def check(client: Pods) -> None:
        async with client.told("^/sandboxes/") as following:
            await made(it, client, "told")
            await client.controller("Stop", sandbox_id="told")
            await client.controller("Wait", sandbox_id="told")
            await client.gone("told")
            await made(it, client, "next")
            await client.gone("next")
            topics = [(await following()).topic.rpartition("/")[2] for _ in range(6)]
        assert topics == ["create", "start", "exit"] * 2

    run(it, check, runtime)


def test_containers_are_tasks_of_the_sandboxs_shim(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await made(it, client, "shared")
        found = [await client.container(name, "shared", in_pod(pid)) for name in ("web", "side")]
        assert {parent(one) for one in found} == {parent(pid)}
        for one in found:
            for kind in ("net", "ipc", "uts"):
                assert os.readlink(f"/proc/{one}/ns/{kind}") == os.readlink(
                    f"/proc/{pid}/ns/{kind}"
                )
        async with client.told("^/tasks/(exit|delete)") as following:
            await client.containerd.tasks.kill("web", 9)
            await client.containerd.tasks.wait("web")
            await client.containerd.tasks.delete("web")
            status = await client.controller("Status", sandbox_id="shared")
            assert status.state == "SANDBOX_READY"  # its shim has not left with the task
            assert [(await following()).topic for _ in range(2)] == ["/tasks/exit", "/tasks/delete"]
            await client.gone("shared")
            assert [(await following()).topic for _ in range(2)] == ["/tasks/exit", "/tasks/delete"]
        assert not any(map(alive, [pid, *found]))
        for name in ("web", "side"):
            await client.containerd.containers.delete(name)

    run(it, check)


def test_tasks_of_another_shims_sandbox(it: Node, runtime: str) -> None:
    async def check(client: Pods) -> None:
        pod = await made(it, client, "other")
        pid = await client.container("inside", "other", in_pod(pod))
        assert alive(pid)
        await client.containerd.tasks.kill("inside", 9)
        assert (await client.containerd.tasks.wait("inside")).code == 137
        await client.containerd.tasks.delete("inside")
        await client.gone("other")
        await client.containerd.containers.delete("inside")

    run(it, check, runtime)


def test_all_outlives_the_server(it: Node, runtime: str) -> None:
    async def make(client: Pods) -> None:
        client.runtime = runtime
        pids.append(await made(it, client, "kept"))
        pids.append(await client.container("within", "kept", in_pod(pids[0])))

    async def look(client: Pods) -> None:
        status = await client.controller("Status", sandbox_id="kept")
        assert (status.pid, status.state) == (pids[0], "SANDBOX_READY")
        async with client.told("^/(sandboxes|tasks)/exit") as following:
            await client.controller("Shutdown", sandbox_id="kept")
            told = [(await following()).topic for _ in range(1 if runtime != OURS else 2)]
        assert told[-1] == "/sandboxes/exit"
        assert not any(map(alive, pids))
        await client.store("Delete", sandbox_id="kept")
        await client.containerd.containers.delete("within")

    pids: list[int] = []
    run_with(it, make, SHIM)
    it.crash()
    it.start()
    run(it, look, runtime)


def test_an_end_without_the_server_is_told_by_the_next(it: Node) -> None:
    async def make(client: Pods) -> None:
        pids.append(await made(it, client, "ended"))

    async def look(client: Pods) -> None:
        assert (await client.controller("Wait", sandbox_id="ended")).exit_status == 137
        status = await client.controller("Status", sandbox_id="ended")
        assert status.state == "SANDBOX_NOTREADY"
        assert (bundle(it, "ended") / "exited").exists()
        await client.gone("ended")

    pids: list[int] = []
    run_with(it, make, SHIM)
    it.crash()
    os.kill(pids[0], signal.SIGKILL)
    it.start()
    run(it, look)


def test_a_failed_creation_leaves_no_shim(it: Node) -> None:
    async def check(client: Pods) -> None:
        sandbox = record(it, client, "half")
        with pytest.raises(BarqueError, match=r"failed to create sandbox half: .*no-such-network"):
            await client.controller(
                "Create", sandbox_id="half", sandbox=sandbox, netns_path="/run/no-such-network"
            )
        eventually(lambda: not working_in(bundle(it, "half")), "its shim ends")

    run(it, check)


def test_no_container_runs_beside_its_sandbox(it: Node) -> None:
    async def check(client: Pods) -> None:
        await client.store("Create", sandbox=record(it, client, "absent"))
        with pytest.raises(NotFound, match="sandbox absent not found"):
            await client.container("alone", "absent", rootfs.config("sleep", "1000"))
        await client.containerd.containers.delete("alone")
        await client.store("Delete", sandbox_id="absent")

    run(it, check)


def test_a_killed_shim_is_cleaned_up_after(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await made(it, client, "lost")
        inside = await client.container("victim", "lost", in_pod(pid))
        async with client.told("^/(sandboxes|tasks)/exit") as following:
            os.kill(parent(pid), signal.SIGKILL)
            told = {(await following()).topic for _ in range(2)}
        assert told == {"/sandboxes/exit", "/tasks/exit"}
        eventually(lambda: not alive(pid) and not alive(inside), "the pod's processes end")
        with pytest.raises(NotFound):
            await client.controller("Status", sandbox_id="lost")
        with pytest.raises(NotFound):
            await client.containerd.tasks.get("victim")
        await client.store("Delete", sandbox_id="lost")
        await client.containerd.containers.delete("victim")
        eventually(lambda: not bundles(it, "io.containerd.runtime.v2.task"), "bundles are removed")

    run(it, check)


def test_what_is_refused(it: Node, runtime: str) -> None:
    async def check(client: Pods) -> None:
        bad = AnyMessage(type_url="test.Refused", value=b"x")
        sandbox = record(it, client, "bad")
        with pytest.raises(BarqueError, match="failed to create sandbox bad: "):
            await client.controller("Create", sandbox_id="bad", sandbox=sandbox, options=bad)
        for method in ("Start", "Stop", "Wait", "Status", "Platform", "Metrics"):
            with pytest.raises(NotFound, match='sandbox "bad": not found'):
                await client.controller(method, sandbox_id="bad")
        await made(it, client, "one")
        with pytest.raises(AlreadyExists):
            await client.controller("Create", sandbox_id="one")
        await client.gone("one")

    run(it, check, runtime)
