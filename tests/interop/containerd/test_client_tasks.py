"""Our client's tasks and events, on our containerd and on Debian's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.containers import Container
from barque.containerd.client.events import (
    Event,
    Subscribed,
    TaskCreate,
    TaskDelete,
    TaskEvent,
    TaskExecAdded,
    TaskExecStarted,
    TaskExit,
    TaskOOM,
    TaskPaused,
    TaskResumed,
    TaskStart,
)
from barque.containerd.client.mounts import Mount
from barque.containerd.client.tasks import RuntimeOptions, Stdio
from barque.errors import AlreadyExists, BarqueError, InvalidArgument, NotFound
from tests.support import rootfs
from tests.support.node import OURS, RUNC, Node, alive, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
SILENT = Stdio()

Check = Callable[[Containerd], Awaitable[None]]


@pytest.fixture(
    scope="module",
    params=[("ours", OURS), ("ours", RUNC), ("real", RUNC)],
    ids=["all-ours", "their-shim", "all-theirs"],
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    kind, runtime = request.param
    with node(kind) as it:
        rootfs.build(it.root / "rootfs")
        yield it, runtime


class Bench:
    """Makes tasks from a read-only busybox, and takes them down at the end of the test."""

    def __init__(self, node: Node, runtime: str, containerd: Containerd) -> None:
        self.node, self.runtime, self.containerd = node, runtime, containerd
        self.made: list[str] = []

    async def make(self, id: str, *arguments: str, **process: Any) -> int:
        config = rootfs.config(*arguments, **process)
        config["linux"]["cgroupsPath"] = f"/{self.node.word}/{id}"
        record = Container(id=id, spec=json.dumps(config).encode(), runtime=self.runtime)
        await self.containerd.containers.create(record)
        self.made.append(id)
        mount = Mount("bind", str(self.node.root / "rootfs"), ("rbind", "rw"))
        options = RuntimeOptions(root=f"{self.node.root}/runtime")
        return await self.containerd.tasks.create(id, [mount], SILENT, options)

    async def end(self) -> None:
        for id in self.made:
            with suppress(BarqueError):
                await self.containerd.tasks.kill(id, signal.SIGKILL, everyone=True)
            with suppress(BarqueError):
                await self.containerd.tasks.wait(id)
                await self.containerd.tasks.delete(id)
            await self.containerd.containers.delete(id)


def run(pair: tuple[Node, str], check: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        containerd = await Containerd.connect(pair[0].address, "daemon")
        bench = Bench(*pair, containerd)
        try:
            await check(bench)
        finally:
            await bench.end()
            containerd.close()

    asyncio.run(main())


def test_a_task_from_create_to_delete(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        pid = await bench.make("one", "sh", "-c", "sleep 0.2; exit 7")
        got = await tasks.get("one")
        assert (got.id, got.pid, got.status, got.exit) == ("one", pid, "created", None)
        waiting = asyncio.create_task(tasks.wait("one"))
        assert await tasks.start("one") == pid
        ended = await waiting
        assert ended.code == 7
        assert ended.exited_at_ns > 1_700_000_000_000_000_000
        (only,) = await tasks.list()
        assert only.exit is not None
        assert (only.status, only.exit.code) == ("stopped", 7)
        assert await tasks.wait("one") == ended
        assert (await tasks.delete("one")).code == 7
        with pytest.raises(NotFound):
            await tasks.get("one")
        assert await tasks.list() == []

    run(pair, check)


def test_a_shim_is_started_with_the_options_of_its_task(pair: tuple[Node, str]) -> None:
    """As one of runc's shims needs them: the cgroup that it is to be in is among them."""

    async def check(bench: Bench) -> None:
        taken = bench.node.root / "taken"
        shim = bench.node.root / "shim"
        shim.write_text(f'#!/bin/sh\ncase "$*" in *start) cat > {taken};; esac\nexit 1\n')
        shim.chmod(0o755)
        told = Bench(bench.node, str(shim), bench.containerd)
        try:
            with pytest.raises(BarqueError):
                await told.make("told", "true")
        finally:
            await told.end()
        assert f"{bench.node.root}/runtime".encode() in taken.read_bytes()

    run(pair, check)


def test_one_without_a_terminal_may_be_resized(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        await bench.make("one", "sleep", "1000")
        await bench.containerd.tasks.resize("one", 80, 25)

    run(pair, check)


@pytest.mark.parametrize("said", [True, False])
def test_the_request_of_an_exec_decides_about_its_terminal(
    pair: tuple[Node, str], said: bool
) -> None:
    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        await bench.make("one", "sleep", "1000")
        await tasks.start("one")
        process = rootfs.config("sh", "-c", "tty; exit 3", terminal=not said)["process"]
        out = bench.node.root / f"tty-{bench.runtime}-{said}"
        os.mkfifo(out)
        reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        try:
            streams = Stdio(stdout=str(out), stderr="" if said else str(out), terminal=said)
            await tasks.exec("one", "e1", process, streams)
            await tasks.start("one", "e1")
            assert (await tasks.wait("one", "e1")).code == 3
            await tasks.delete("one", "e1")
            text = os.read(reader, 100)
        finally:
            os.close(reader)
        assert (b"/dev/pts" in text, b"not a tty" in text) == (said, not said)

    run(pair, check)


def test_readers_see_the_end_of_an_exec_that_cannot_be_started(pair: tuple[Node, str]) -> None:
    """Go's client waits for that before it tells of the failure."""

    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        await bench.make("one", "sleep", "1000")
        await tasks.start("one")
        out = bench.node.root / f"out-{bench.runtime}"
        os.mkfifo(out)
        reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        try:
            process = rootfs.config("/no/such")["process"]
            await tasks.exec("one", "e1", process, Stdio(stdout=str(out)))
            with pytest.raises(BarqueError, match="no such file or directory"):
                await tasks.start("one", "e1")
            assert os.read(reader, 1) == b""
            await tasks.delete("one", "e1")
        finally:
            os.close(reader)

    run(pair, check)


def test_exec_pids_limits_and_metrics(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        pid = await bench.make("one", "sleep", "1000")
        await tasks.start("one")
        await tasks.exec("one", "e1", rootfs.config("sleep", "1000")["process"], SILENT)
        exec_pid = await tasks.start("one", "e1")
        assert sorted(await tasks.pids("one")) == sorted([pid, exec_pid])
        await tasks.update("one", {"pids": {"limit": 55}})
        (limit,) = Path("/sys/fs/cgroup").glob(f"*/{bench.node.word}/one/pids.max")
        assert limit.read_text() == "55\n"
        metrics = await tasks.metrics("one")
        assert metrics.version in (1, 2)
        assert metrics.values["pids"]["limit"] == "55"
        assert int(metrics.values["pids"]["current"]) >= 2  # threads of a runc that starts count
        await tasks.pause("one")
        assert (await tasks.get("one")).status == "paused"
        await tasks.resume("one")
        await tasks.kill("one", signal.SIGTERM, "e1")
        assert (await tasks.wait("one", "e1")).code == 143
        assert (await tasks.delete("one", "e1")).code == 143
        assert alive(pid)
        with pytest.raises(NotFound):
            await tasks.kill("one", signal.SIGTERM, "e1")

    run(pair, check)


def test_kinds_of_errors(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        for call in (tasks.get, tasks.start, tasks.delete, tasks.wait, tasks.pause, tasks.pids):
            with pytest.raises(NotFound):
                await call("absent")
        with pytest.raises(NotFound):
            await tasks.create("absent", [], SILENT)
        await bench.make("one", "sleep", "1000")
        with pytest.raises(AlreadyExists):
            await tasks.create("one", [], SILENT)
        with pytest.raises(InvalidArgument):
            await tasks.exec("one", "../e", rootfs.config("true")["process"], SILENT)
        with pytest.raises(BarqueError, match="no such file or directory"):
            await bench.make("two", "/no/such")

    run(pair, check)


async def until(events: Any, last: Callable[[Event], bool]) -> list[Event]:
    found: list[Event] = []
    async for event in events:
        if isinstance(event, TaskEvent):
            found.append(event)
            if last(event):
                break
    return found


def test_events_are_typed(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        tasks = bench.containerd.tasks
        async with asyncio.timeout(30):
            async with aclosing(bench.containerd.events.subscribe()) as events:
                assert await anext(events) == Subscribed(again=False)
                pid = await bench.make("one", "sleep", "1000")
                await tasks.start("one")
                await tasks.pause("one")
                await tasks.resume("one")
                await tasks.exec("one", "e", rootfs.config("sh", "-c", "exit 3")["process"], SILENT)
                exec_pid = await tasks.start("one", "e")
                await tasks.wait("one", "e")
                await tasks.kill("one", signal.SIGKILL)
                await tasks.wait("one")
                await tasks.delete("one")
                told = await until(
                    events, lambda event: isinstance(event, TaskDelete) and event.pid == pid
                )
        # what comes before is of the test before: a shim tells of an end after it has answered
        first = next(at for at, event in enumerate(told) if isinstance(event, TaskCreate))
        told = told[first:]
        assert [type(event) for event in told] == [
            *(TaskCreate, TaskStart, TaskPaused, TaskResumed),
            *(TaskExecAdded, TaskExecStarted, TaskExit, TaskExit, TaskDelete),
        ]
        assert {event.namespace for event in told} == {"daemon"}
        exits = [event for event in told if isinstance(event, TaskExit)]
        assert [(each.id, each.exec_id, each.pid, each.code) for each in exits] == [
            ("one", "e", exec_pid, 3),
            ("one", "", pid, 137),
        ]

    run(pair, check)


def test_filters_and_bad_filters(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        subscribe = bench.containerd.events.subscribe
        async with asyncio.timeout(30):
            async with aclosing(subscribe(['topic=="/tasks/exit",event.id==one'])) as events:
                await anext(events)
                await bench.make("one", "true")
                await bench.containerd.tasks.start("one")
                first = await anext(events)
                assert isinstance(first, TaskExit)
        refused = aclosing(subscribe(["topic=="]))
        async with refused as events, asyncio.timeout(30):
            with pytest.raises(BarqueError, match="filter"):
                [event async for event in events]

    run(pair, check)


def test_a_subscription_outlives_a_restart(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        async with asyncio.timeout(60):
            async with aclosing(bench.containerd.events.subscribe()) as events:
                assert await anext(events) == Subscribed(again=False)
                bench.node.crash()
                restart = asyncio.create_task(asyncio.to_thread(bench.node.start))
                async for event in events:
                    if isinstance(event, Subscribed):
                        break
                assert event == Subscribed(again=True)
                await restart
                await bench.make("after", "true")
                assert await until(events, lambda event: isinstance(event, TaskCreate))

    run(pair, check)


def test_out_of_memory_is_told(pair: tuple[Node, str]) -> None:
    async def check(bench: Bench) -> None:
        async with asyncio.timeout(60):
            async with aclosing(bench.containerd.events.subscribe()) as events:
                await anext(events)
                await bench.make("hungry", "sh", "-c", "sleep 0.5; head -c 200m /dev/zero | tail")
                await bench.containerd.tasks.update("hungry", {"memory": {"limit": 20 << 20}})
                await bench.containerd.tasks.start("hungry")
                told = await until(events, lambda event: isinstance(event, TaskExit))
                kinds = [type(event) for event in told]
                if TaskOOM not in kinds:
                    told = await until(events, lambda event: isinstance(event, TaskOOM))

    run(pair, check)


def test_a_kernel_that_criu_cannot_use_is_told_of(pair: tuple[Node, str], tmp_path: Path) -> None:
    """Where checkpoints work is tests/vm; here the task goes on, and nothing is left."""
    checked = subprocess.run(["criu", "check"], capture_output=True, check=False, cwd=tmp_path)
    if checked.returncode == 0:  # else it leaves a log where it was called
        return

    async def check(bench: Bench) -> None:
        await bench.make("one", "sleep", "1000")
        await bench.containerd.tasks.start("one")
        done = bench.node.ctr("-n", "daemon", "task", "checkpoint", "one", check=False)
        assert done.returncode == 1
        assert "criu" in done.stderr
        assert (await bench.containerd.tasks.get("one")).status == "running"
        listed = bench.node.ctr("-n", "daemon", "content", "ls", "-q").stdout
        assert listed == ""

    run(pair, check)
