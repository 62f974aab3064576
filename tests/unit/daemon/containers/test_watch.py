"""What is compared when containerd is back, while containers start and end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from barque.daemon.containers import watch
from barque.daemon.containers.supervise import Task


class Container:
    def __init__(self, identity: str, pid: int = 0) -> None:
        self.id = identity
        self.state = SimpleNamespace(running=bool(pid), pid=pid)
        self.lock = asyncio.Lock()


class Catalogue(dict[str, Container]):
    def __iter__(self) -> Any:
        return iter(list(self.values()))

    def __contains__(self, identity: object) -> bool:
        return identity in self.keys()


class Supervisor:
    """Its list of tasks is made before `meanwhile` happens, and answered after it."""

    def __init__(self, tasks: list[Task], meanwhile: Any = lambda: None) -> None:
        self._tasks = tasks
        self._meanwhile = meanwhile

    async def tasks(self) -> list[Task]:
        self._meanwhile()
        return self._tasks

    async def snapshot_owners(self) -> list[str]:
        return []


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    done: list[tuple[str, str]] = []

    def recorded(name: str) -> Any:
        async def call(engine: Any, item: Any, *rest: Any) -> None:
            done.append((name, item if isinstance(item, str) else item.id))

        return call

    for name in ("exited", "clean_up", "end_stray", "erase"):
        monkeypatch.setattr(watch, name, recorded(name))
    return done


def engine(containers: list[Container], supervisor: Supervisor, **more: Any) -> Any:
    catalogue = Catalogue({item.id: item for item in containers})
    fields = {"creating": set(), "unerased": set(), "spawn": asyncio.ensure_future, **more}
    return SimpleNamespace(catalogue=catalogue, supervisor=supervisor, **fields)


def test_a_task_that_is_gone_or_ended(done: list[tuple[str, str]]) -> None:
    async def run() -> None:
        containers = [Container("gone", 3), Container("ended", 4), Container("runs", 5)]
        tasks = [Task("ended", 4, "stopped", 7, "now"), Task("runs", 5, "running", 0, "")]
        await watch.reconcile(engine(containers, Supervisor(tasks)))

    asyncio.run(run())
    assert done == [("exited", "gone"), ("exited", "ended")]


def test_one_that_started_meanwhile_has_not_ended(done: list[tuple[str, str]]) -> None:
    async def run() -> None:
        container = Container("new")

        def start() -> None:
            container.state.running, container.state.pid = True, 9

        await watch.reconcile(engine([container], Supervisor([], start)))

    asyncio.run(run())
    assert done == []


def test_what_could_not_be_undone_is_undone(done: list[tuple[str, str]]) -> None:
    async def run() -> None:
        tasks = [Task(name, 4, "running", 0, "") for name in ("half", "stray", "making")]
        it = engine([Container("half")], Supervisor(tasks), creating={"making"}, unerased={"old"})
        await watch.reconcile(it)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert done == [("clean_up", "half"), ("end_stray", "stray"), ("erase", "old")]


def test_a_start_under_way_is_left_alone(done: list[tuple[str, str]]) -> None:
    async def run() -> None:
        container = Container("starting")
        it = engine([container], Supervisor([Task("starting", 4, "created", 0, "")]))
        await container.lock.acquire()
        looking = asyncio.ensure_future(watch.reconcile(it))
        await asyncio.sleep(0)
        container.state.running, container.state.pid = True, 4
        container.lock.release()
        await looking

    asyncio.run(run())
    assert done == []
