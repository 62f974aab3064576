"""The supervisor on the real kernel: tasks in our shims and in containerd's own."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.proto.event_types_pb2 import TaskExit
from barque.containerd.proto.shim_pb2 import UpdateTaskRequest
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.shims.bundle import create_bundle
from barque.containerd.shims.shim import Shim, Stdio
from barque.errors import AlreadyExists, BarqueError, Conflict, InvalidArgument, NotFound
from tests.support import processes, rootfs
from tests.support.supervisor import (
    NAMESPACE,
    OURS,
    RUNC,
    Supervisor,
    spec,
    supervisor,
)

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(60)]
GONE_TIMEOUT_S = 30.0
SPEC_TYPES = "types.containerd.io/opencontainers/runtime-spec/1/"

Check = Callable[[Supervisor], Awaitable[None]]


@pytest.fixture(params=[OURS, RUNC])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root() -> Iterator[Path]:
    """A temporary root; at the end no process, mount or cgroup of it may be left."""
    with rootfs.temporary() as directory:
        yield directory
        processes.assert_gone(directory)
        assert list(Path("/sys/fs/cgroup").glob(f"*/{directory.name}")) == []


def run(root: Path, check: Check) -> None:
    async def main() -> None:
        async with supervisor(root) as it:
            await check(it)

    asyncio.run(main())


def sleeper(root: Path) -> dict[str, object]:
    return spec("sleep", "1000", cgroup=f"/{root.name}")


def shell(root: Path, script: str) -> dict[str, object]:
    return spec("sh", "-c", script, cgroup=f"/{root.name}")


def test_exit_status_and_events_in_order(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        shim = await it.create("one", shell(root, "exit 7"), runtime)
        waiting = asyncio.create_task(shim.wait(""))
        assert await shim.start("") == shim.pid
        status, exited_at_ns = await waiting
        assert status == 7
        assert abs(time.time_ns() - exited_at_ns) < 60_000_000_000
        answer = await it.shims.delete(shim)
        assert (answer.pid, answer.exit_status) == (shim.pid, 7)
        await it.event("/tasks/delete")
        names = [envelope.topic.rpartition("/")[2] for envelope in it.told]
        assert names == ["create", "start", "exit", "delete"]
        assert {envelope.namespace for envelope in it.told} == {NAMESPACE}
        ended = TaskExit.FromString((await it.event("/tasks/exit")).value)
        assert (ended.container_id, ended.id, ended.exit_status) == ("one", "one", 7)
        await no_bundles(root)

    run(root, check)


def test_life_of_a_running_task(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        shim = await it.create("one", sleeper(root), runtime)
        assert (await shim.state()).status == Status.CREATED
        await shim.start("")
        assert (await shim.state()).status == Status.RUNNING
        assert await it.shims.get(NAMESPACE, "one") is shim
        # containerd's own shim gives this failure no code
        with pytest.raises(Conflict if runtime == OURS else BarqueError, match="running"):
            await it.shims.delete(shim)
        assert await it.shims.get(NAMESPACE, "one") is shim
        assert [process.pid for process in (await shim.pids()).processes] == [shim.pid]
        assert (await shim.stats()).value
        await shim.pause()
        assert (await shim.state()).status == Status.PAUSED
        await shim.resume()
        resources = UpdateTaskRequest(id="one")
        resources.resources.type_url = f"{SPEC_TYPES}LinuxResources"
        resources.resources.value = b'{"pids":{"limit":77}}'
        await shim.update(resources)
        limits = Path("/sys/fs/cgroup").glob(f"*/{root.name}/pids.max")
        assert [path.read_text() for path in limits] == ["77\n"]
        await shim.kill("", signal.SIGKILL, everyone=False)
        assert (await shim.wait(""))[0] == 137
        state = await shim.state()
        assert (state.status, state.exit_status) == (Status.STOPPED, 137)
        await it.shims.delete(shim)
        with pytest.raises(NotFound, match="task one not found"):
            await it.shims.get(NAMESPACE, "one")

    run(root, check)


def test_exec(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        shim = await it.create("one", sleeper(root), runtime)
        await shim.start("")
        process = shim_spec("sh", "-c", "exit 9")
        await shim.exec("more", Stdio("", "", "", False), process)
        with pytest.raises(AlreadyExists):
            await shim.exec("more", Stdio("", "", "", False), process)
        waiting = asyncio.create_task(shim.wait("more"))
        pid = await shim.start("more")
        assert pid != shim.pid
        assert (await waiting)[0] == 9
        assert (await shim.delete("more")).exit_status == 9
        with pytest.raises(NotFound):
            await shim.state("more")
        assert (await shim.state()).status == Status.RUNNING

    run(root, check)


def shim_spec(*arguments: str) -> AnyMessage:
    message = AnyMessage(type_url=f"{SPEC_TYPES}Process")
    process = rootfs.config(*arguments)["process"]
    message.value = json.dumps(process).encode()
    return message


def test_a_create_that_fails_leaves_nothing(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        config = spec("/no/such/program", cgroup=f"/{root.name}")
        with pytest.raises(BarqueError, match="no such file or directory"):
            await it.create("one", config, runtime)
        await no_bundles(root)
        assert rootfs.mounts_below(root) == []
        again = await it.create("one", sleeper(root), runtime)
        assert (await again.state()).status == Status.CREATED

    run(root, check)


def test_an_id_is_taken_while_its_task_is_there(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        made = await asyncio.gather(
            *(it.create("one", sleeper(root), runtime) for _ in range(3)), return_exceptions=True
        )
        assert [type(each) for each in made].count(AlreadyExists) == 2
        assert [type(each) for each in made].count(Shim) == 1
        with pytest.raises(AlreadyExists, match="task one: already exists"):
            await it.create("one", sleeper(root), runtime)

    run(root, check)


def test_a_restart_finds_running_and_ended_tasks(root: Path, runtime: str) -> None:
    async def main() -> None:
        async with supervisor(root) as first:
            runs = await first.create("runs", sleeper(root), runtime)
            await runs.start("")
            ends = await first.create("ends", shell(root, "sleep 0.3; exit 5"), runtime)
            await ends.start("")
            await first.close()  # nobody is there when it ends
            await asyncio.sleep(0.6)
            second = Supervisor(root, "runc")
            await second.open()
            found = await second.shims.get(NAMESPACE, "runs")
            assert (found.pid, (await found.state()).status) == (runs.pid, Status.RUNNING)
            ended = await second.shims.get(NAMESPACE, "ends")
            assert await ended.wait("") == await ended.wait("")
            assert (await ended.wait(""))[0] == 5
            told = await second.event("/tasks/exit", lambda e: b"ends" in e.value)
            assert TaskExit.FromString(told.value).exit_status == 5
            assert (await second.shims.delete(ended)).exit_status == 5
            assert await second.end(found) == 137
            await second.close()
            await second.zygote.close()

    asyncio.run(main())


def test_a_killed_shim_is_told_and_its_resources_are_freed(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        shim = await it.create("one", sleeper(root), runtime)
        await shim.start("")
        waiting = asyncio.create_task(shim.wait(""))
        os.kill((await shim.connect()).shim_pid, signal.SIGKILL)
        assert (await waiting)[0] == 137
        ended = TaskExit.FromString((await it.event("/tasks/exit")).value)
        assert (ended.id, ended.exit_status) == ("one", 137)
        await it.event("/tasks/delete")
        with pytest.raises(NotFound):
            await it.shims.get(NAMESPACE, "one")
        await gone(shim.pid)
        await no_bundles(root)
        again = await it.create("one", sleeper(root), runtime)
        await again.start("")

    run(root, check)


def test_a_shim_that_died_unseen_is_buried_at_start(root: Path, runtime: str) -> None:
    async def main() -> None:
        async with supervisor(root) as first:
            shim = await first.create("one", sleeper(root), runtime)
            await shim.start("")
            shim_pid = (await shim.connect()).shim_pid
            await first.close()
            os.kill(shim_pid, signal.SIGKILL)
            await first.zygote.close()
            await gone(shim_pid)
            async with supervisor(root) as second:
                assert await second.shims.in_namespace(NAMESPACE) == []
                ended = TaskExit.FromString((await second.event("/tasks/exit")).value)
                assert (ended.id, ended.exit_status) == ("one", 137)
                await gone(shim.pid)
                await no_bundles(root)

    asyncio.run(main())


def test_a_shim_that_hangs_at_a_restart_is_left_alone(root: Path, runtime: str) -> None:
    async def main() -> None:
        async with supervisor(root) as first:
            shim = await first.create("one", sleeper(root), runtime)
            await shim.start("")
            shim_pid = (await shim.connect()).shim_pid
            await first.event("/tasks/start")
            await first.close()
            os.kill(shim_pid, signal.SIGSTOP)
            async with supervisor(root) as second:
                found = await second.shims.get(NAMESPACE, "one")
                os.kill(shim_pid, signal.SIGCONT)
                assert (await found.state()).status == Status.RUNNING
                assert second.told == []
                assert await second.end(found) == 137

    asyncio.run(main())


async def no_bundles(root: Path) -> None:
    """Bundles are out of sight at once, and their files gone a little later."""
    bundles = root / "tasks" / NAMESPACE
    assert [path.name for path in bundles.iterdir() if not path.name.startswith(".")] == []
    async with asyncio.timeout(GONE_TIMEOUT_S):
        while list(bundles.iterdir()):
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    async with asyncio.timeout(GONE_TIMEOUT_S):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)


def test_half_made_bundles_are_removed_at_start(root: Path, runtime: str) -> None:
    create_bundle(root / "tasks" / NAMESPACE / "half", NAMESPACE, "half", b"{}", runtime)
    (root / "tasks" / NAMESPACE / ".old" / "rootfs").mkdir(parents=True)

    async def check(it: Supervisor) -> None:
        assert await it.shims.in_namespace(NAMESPACE) == []
        await no_bundles(root)
        assert it.told == []

    run(root, check)


def test_a_cancelled_create_is_taken_down(root: Path, runtime: str) -> None:
    async def check(it: Supervisor) -> None:
        creating = asyncio.create_task(it.create("one", sleeper(root), runtime))
        await asyncio.sleep(0.01)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        async with asyncio.timeout(GONE_TIMEOUT_S):
            while list((root / "tasks").glob("*/*")) or await it.shims.in_namespace(NAMESPACE):
                await asyncio.sleep(0.01)

    run(root, check)


def test_a_killed_zygote_is_replaced_and_its_shims_go_on(root: Path) -> None:
    async def check(it: Supervisor) -> None:
        shim = await it.create("one", sleeper(root), OURS)
        await shim.start("")
        first = it.zygote.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        other = await it.create("two", spec("sleep", "9", cgroup=f"/{root.name}/two"), OURS)
        assert it.zygote.pid not in (None, first)
        assert (await shim.state()).status == Status.RUNNING
        assert (await other.state()).status == Status.CREATED
        await it.end(other)

    run(root, check)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("io.containerd.nothing.v9", NotFound),
        ("/no/such/shim", NotFound),
        ("runc", InvalidArgument),
        ("", InvalidArgument),
        ("io.containerd./etc/passwd.v1", InvalidArgument),
    ],
)
def test_unknown_runtimes_are_refused(root: Path, name: str, kind: type[Exception]) -> None:
    async def check(it: Supervisor) -> None:
        with pytest.raises(kind):
            await it.create("one", sleeper(root), name)
        assert not (root / "tasks" / NAMESPACE).exists()

    run(root, check)
