"""What is compared when containerd is back, while containers start and end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from barque.daemon.containers import watch
from barque.daemon.containers.state import State, Status
from barque.daemon.containers.supervise import Task


class Container:
    def __init__(self, identity: str, pid: int = 0) -> None:
        self.id = identity
        self.state = State(status=Status.RUNNING if pid else Status.CREATED, pid=pid)
        self.lock = asyncio.Lock()
        self.execs: set[str] = set()


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

    async def resume(self, identity: str) -> None:
        task = next(task for task in self._tasks if task.id == identity)
        self._tasks = [task._replace(status="running")]

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
            container.state.status, container.state.pid = Status.RUNNING, 9

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
        container.state.status, container.state.pid = Status.RUNNING, 4
        container.lock.release()
        await looking

    asyncio.run(run())
    assert done == []


@pytest.mark.parametrize(
    ("known", "held", "task", "told"),
    [
        (Status.PAUSED, False, "running", [("running", False)]),  # an unpause was not answered
        (Status.PAUSED, True, "running", [("running", False)]),
        (Status.RUNNING, False, "paused", [("paused", False)]),  # a pause was not
        (Status.RUNNING, True, "paused", []),  # one of ours, whose operation has failed: let go
        (Status.PAUSED, True, "paused", []),  # one of ours, under way
    ],
)
def test_a_pause_whose_answer_was_lost(
    known: Status, held: bool, task: str, told: list[tuple[str, bool]]
) -> None:
    saved: list[tuple[str, bool]] = []

    async def run() -> tuple[Container, Supervisor]:
        container = Container("c", 5)
        container.state.status, container.state.held = known, held
        supervisor = Supervisor([Task("c", 5, task, 0, "")])
        made = engine([container], supervisor, publish=lambda *_: None)
        made.catalogue.save_state = lambda c: saved.append((c.state.status, c.state.held))
        await watch.reconcile(made)
        return container, supervisor

    container, supervisor = asyncio.run(run())
    assert saved == told
    at_the_end = asyncio.run(supervisor.tasks())[0].status
    assert at_the_end == container.state.status.value
    assert container.state.held is (held and known is Status.PAUSED and task == "paused")
