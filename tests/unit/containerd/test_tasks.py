"""The Tasks service over shims that are a ttrpc server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from barque.containerd.checkpoints import IMAGES_TYPE, SPEC_TYPE, Checkpoints
from barque.containerd.content.blobs import Blobs
from barque.containerd.content.store import ContentStore
from barque.containerd.events import Envelope, Exchange
from barque.containerd.grpc import Call
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto import tasks_pb2 as api
from barque.containerd.proto.containers_pb2 import Container
from barque.containerd.proto.event_types_pb2 import TaskExit
from barque.containerd.proto.runc_options_pb2 import CheckpointOptions
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.references import References
from barque.containerd.sandboxes import Sandboxes
from barque.containerd.shims.bundle import Bundle, ShimRecord, create_bundle
from barque.containerd.shims.launch import Launcher
from barque.containerd.shims.sandboxes import SandboxShims
from barque.containerd.shims.shim import Shim
from barque.containerd.shims.supervisor import EXIT_UNKNOWN
from barque.containerd.shims.tasks import Shims
from barque.containerd.shims.zygote import Zygote
from barque.containerd.tasks import Tasks
from barque.containerd.ttrpc import Handler, Server
from barque.errors import (
    BarqueError,
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)

MOBY = Call("moby")
SERVICE = "containerd.task.v2.Task"


class Records:
    """The store of containers: every id but `absent` is there."""

    def find(self, namespace: str, id: str) -> Container:
        if id == "absent":
            raise NotFound(f'container "{id}" in namespace "{namespace}": not found')
        container = Container(id=id)
        container.runtime.name = "io.containerd.none.v1"
        return container


class Broken(Launcher):
    """No shim can be started, and none can be cleaned up after."""

    def __init__(self) -> None:
        super().__init__(Zygote("/none", ["false"]), "/none", "/none", debug=False)

    async def delete(self, bundle: Bundle, runtime: str) -> task.DeleteResponse:
        raise BarqueError("no delete today")


class World:
    """A Tasks service and its shims under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exchange = Exchange()
        self.told: list[Envelope] = []
        self.shims = Shims(root / "tasks", Broken(), self.exchange)
        metadata = Metadata(root / "meta.db")
        references = References(metadata)
        self.content = ContentStore(metadata, references, ContentPaths(root / "content"))
        self.blobs = Blobs(self.content, metadata, references)
        self.checkpoints = Checkpoints(root / "checkpoints", self.content, self.blobs)
        held = SandboxShims(root / "sandboxes", Broken(), self.exchange)
        self.tasks = Tasks(self.shims, held, Sandboxes(metadata), Records(), self.checkpoints)
        self.servers: dict[str, Server] = {}
        self.asked: list[tuple[str, str, bytes]] = []

    def tell(self, envelope: Envelope) -> bool:
        self.told.append(envelope)
        return False

    async def add(self, id: str, namespace: str = "moby", **answers: Message | Exception) -> Shim:
        """A shim with a task; `answers` by method, State has one by default."""
        state = task.StateResponse(id=id, pid=7, status=Status.RUNNING)
        known = {"State": state, **answers}

        def handler(method: str, answer: Message | Exception) -> Handler:
            async def answered(payload: bytes) -> bytes:
                self.asked.append((id, method, payload))
                if isinstance(answer, Exception):
                    raise answer
                return answer.SerializeToString()

            return answered

        methods = {(SERVICE, name): handler(name, answer) for name, answer in known.items()}
        self.servers[id] = Server(methods)
        path = str(self.root / id)
        await self.servers[id].listen(path)
        bundle = create_bundle(self.root / "tasks" / namespace / id, namespace, id, b"{}", "x.v2")
        record = ShimRecord("x.v2", path, 2)
        bundle.write_record(record)
        shim = await self.shims._connect(bundle, record, None)
        self.shims._adopt(shim)
        return shim


def run(root: Path, check: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(root)
        await world.shims.load()
        with world.exchange.subscribe(world.tell):
            await check(world)
        await world.shims.close()
        for server in world.servers.values():
            await server.close()

    asyncio.run(main())


def test_list_shows_the_tasks_of_one_namespace(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one")
        await world.add("two", State=task.StateResponse(id="two", status=Status.PAUSED))
        await world.add("gone", State=NotFound("task gone not found"))
        await world.add("other", namespace="elsewhere")

        async def listed(filter: str = "") -> list[str]:
            answer = await world.tasks.list_tasks(MOBY, api.ListTasksRequest(filter=filter))
            return sorted(process.id for process in answer.tasks)

        assert await listed() == ["one", "two"]
        assert await listed("status==paused") == ["two"]
        assert await listed("id==one") == ["one"]
        assert await listed("id==one,status==paused") == []
        with pytest.raises(InvalidArgument):
            await listed("id==")

    run(tmp_path, check)


def test_what_the_shim_says_is_passed_on(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one", Kill=NotFound("process already finished"), Pause=Conflict("no"))
        with pytest.raises(NotFound, match="process already finished"):
            await world.tasks.kill(MOBY, api.KillRequest(container_id="one", signal=9))
        with pytest.raises(Conflict, match="no"):
            await world.tasks.pause(MOBY, api.PauseTaskRequest(container_id="one"))
        with pytest.raises(Unsupported, match="Resume"):
            await world.tasks.resume(MOBY, api.ResumeTaskRequest(container_id="one"))

    run(tmp_path, check)


def test_requests_reach_the_shim_whole(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one", Exec=task.ExecProcessResponse(), Update=task.ExecProcessResponse())
        spec = AnyMessage(type_url="t", value=b"{}")
        await world.tasks.exec(
            MOBY,
            api.ExecProcessRequest(
                container_id="one", exec_id="e", stdin="i", stdout="o", terminal=True, spec=spec
            ),
        )
        (_, method, payload) = world.asked[-1]
        assert (method, task.ExecProcessRequest.FromString(payload)) == (
            "Exec",
            task.ExecProcessRequest(
                id="one", exec_id="e", stdin="i", stdout="o", terminal=True, spec=spec
            ),
        )
        await world.tasks.update(
            MOBY,
            api.UpdateTaskRequest(container_id="one", resources=spec, annotations={"a": "b"}),
        )
        sent = task.UpdateTaskRequest.FromString(world.asked[-1][2])
        assert (sent.id, sent.resources, dict(sent.annotations)) == ("one", spec, {"a": "b"})

    run(tmp_path, check)


def test_what_is_refused_before_any_shim_is_asked(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one")
        tasks = world.tasks
        refused: list[tuple[Awaitable[object], type[Exception], str]] = [
            (tasks.get(Call(), api.GetRequest(container_id="one")), Conflict, "namespace"),
            (tasks.get(MOBY, api.GetRequest(container_id="x")), NotFound, "task x not found"),
            (tasks.get(Call("b"), api.GetRequest(container_id="one")), NotFound, "task one"),
            (
                tasks.kill(MOBY, api.KillRequest(container_id="one", signal=65)),
                InvalidArgument,
                "range",
            ),
            (
                tasks.exec(MOBY, api.ExecProcessRequest(container_id="one", exec_id="../x")),
                InvalidArgument,
                "identifier",
            ),
            (
                tasks.delete_process(MOBY, api.DeleteProcessRequest(container_id="one")),
                InvalidArgument,
                "must not be empty",
            ),
            (
                tasks.checkpoint(
                    MOBY, api.CheckpointTaskRequest(container_id="one", parent_checkpoint="x")
                ),
                Unsupported,
                "checkpoint of task one on top of another",
            ),
            (
                tasks.create(MOBY, api.CreateTaskRequest(container_id="absent")),
                NotFound,
                'container "absent"',
            ),
            (
                tasks.create(MOBY, api.CreateTaskRequest(container_id="new")),
                NotFound,
                "containerd-shim-none-v1",
            ),
        ]
        restore = api.CreateTaskRequest(container_id="new")
        restore.checkpoint.digest = "sha256:00"
        refused.append(
            (tasks.create(MOBY, restore), InvalidArgument, "unsupported checkpoint type")
        )
        for call, kind, text in refused:
            with pytest.raises(kind, match=text):
                await call
        assert world.asked == []

    run(tmp_path, check)


def test_metrics_of_the_wanted_tasks(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        stats = task.StatsResponse(stats=AnyMessage(type_url="m", value=b"1"))
        await world.add("one", Stats=stats)
        await world.add("two", Stats=stats)
        await world.add("bad", Stats=Conflict("not now"))
        answer = await world.tasks.metrics(MOBY, api.MetricsRequest(filters=["id==two"]))
        assert [metric.id for metric in answer.metrics] == ["two"]
        answer = await world.tasks.metrics(MOBY, api.MetricsRequest())
        assert sorted(metric.id for metric in answer.metrics) == ["one", "two"]
        assert answer.metrics[0].data == stats.stats

    run(tmp_path, check)


def test_a_dead_shim_whose_clean_up_fails_is_told_all_the_same(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        shim = await world.add("one")
        await shim.state()
        await world.servers["one"].close()
        with pytest.raises(NotFound, match="task one not found"):
            await shim.state()
        ended = await shim.fate
        assert ended is not None
        assert ended.status == EXIT_UNKNOWN
        topics = [envelope.topic for envelope in world.told]
        assert topics == ["/tasks/exit", "/tasks/delete"]
        told = TaskExit.FromString(world.told[0].value)
        assert (told.container_id, told.exit_status) == ("one", EXIT_UNKNOWN)
        with pytest.raises(NotFound):
            await world.tasks.get(MOBY, api.GetRequest(container_id="one"))
        assert not (tmp_path / "tasks" / "moby" / "one").exists()

    run(tmp_path, check)


def test_a_checkpoint_is_two_blobs_and_leaves_no_files(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        shim = await world.add("one", Checkpoint=Empty())
        paths = []

        async def dump(path: str) -> None:
            paths.append(Path(path))
            (paths[0] / "pages-1.img").write_bytes(b"memory")
            (paths[0] / "descriptors.json").write_bytes(b"[]")

        spec = AnyMessage(type_url="spec", value=b"{}")
        images, config = await world.checkpoints.save(MOBY, dump, spec)
        assert (images.media_type, config.media_type) == (IMAGES_TYPE, SPEC_TYPE)
        assert AnyMessage.FromString(world.blobs.read("moby", config.digest, 100)) == spec
        assert not paths[0].exists()
        unpacked = Path(await world.checkpoints.unpack(MOBY, "two", images))
        assert (unpacked / "pages-1.img").read_bytes() == b"memory"
        assert sorted(path.name for path in unpacked.iterdir()) == [
            "descriptors.json",
            "pages-1.img",
        ]
        await world.checkpoints.forget("moby", "two")
        assert not unpacked.exists()
        await world.tasks.checkpoint(MOBY, api.CheckpointTaskRequest(container_id=shim.id))
        assert [method for _, method, _ in world.asked] == ["Checkpoint"]
        assert list((tmp_path / "checkpoints" / "moby").iterdir()) == []

    run(tmp_path, check)


def test_images_in_a_directory_of_the_callers_are_no_blobs(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one", Checkpoint=Empty())
        request = api.CheckpointTaskRequest(container_id="one")
        request.options.type_url = "containerd.runc.v1.CheckpointOptions"
        request.options.value = CheckpointOptions(image_path="/images").SerializeToString()
        assert list((await world.tasks.checkpoint(MOBY, request)).descriptors) == []
        ((_, _, payload),) = world.asked
        assert task.CheckpointTaskRequest.FromString(payload).path == "/images"
        request.options.value = b"\xff"
        with pytest.raises(InvalidArgument, match="malformed containerd"):
            await world.tasks.checkpoint(MOBY, request)

    run(tmp_path, check)


def test_a_dump_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("one", Checkpoint=BarqueError("criu failed"))
        with pytest.raises(BarqueError, match="criu failed"):
            await world.tasks.checkpoint(MOBY, api.CheckpointTaskRequest(container_id="one"))
        assert list((tmp_path / "checkpoints" / "moby").iterdir()) == []
        assert list(world.content.all("moby")) == []

    run(tmp_path, check)


def test_a_start_finds_what_a_crash_left_of_checkpoints(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.add("waiting")
        kept = tmp_path / "checkpoints" / "moby" / "waiting~1"
        for path in (kept, kept.with_name("gone~2"), kept.with_name(".dump~3")):
            path.mkdir(parents=True)
            (path / "pages-1.img").write_bytes(b"memory")
        assert world.checkpoints.sweep(world.shims.knows) == 2
        assert list(kept.parent.iterdir()) == [kept]
        await world.checkpoints.forget("moby", "waiting")
        assert list(kept.parent.iterdir()) == []

    run(tmp_path, check)
