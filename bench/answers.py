"""What a client takes by itself: a server that answers at once with what ours answered before.

python -m bench.answers record FILE SOCKET ROOT    our containerd, its answers kept in FILE
python -m bench.answers replay FILE SOCKET ROOT    answers from FILE; ROOT for what is mounted
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from barque.containerd.config import Config
from barque.containerd.http2 import server as http2
from barque.containerd.http2.server import Rest, ServerConnection, ServerStream
from barque.containerd.http2.status import Status
from barque.containerd.main import serve
from barque.containerd.proto import snapshots_pb2, tasks_pb2
from tests.support.node import OURS, Node, node

LAST = "/containerd.services.containers.v1.Containers/Delete"
WARM_UP = 3
COMMAND = (sys.executable, "-m", "bench.answers")


class Answered(NamedTuple):
    path: str
    messages: list[bytes]
    ended: tuple[Status, str]


class Recorded(ServerStream):
    """A call whose answer is kept. The run that ends with `LAST` is written to the file."""

    file = Path()
    all: list[Answered] = []  # of this process
    messages: list[bytes]

    def answer(self, message: bytes) -> None:
        self._keep([message], Status.OK, "")
        super().answer(message)

    async def send(self, message: bytes, *, end: bool = False) -> None:
        self.__dict__.setdefault("messages", []).append(message)
        await super().send(message, end=end)

    def finish(self, status: Status = Status.OK, text: str = "") -> None:
        self._keep(self.__dict__.get("messages", []), status, text)
        super().finish(status, text)

    def _keep(self, messages: list[bytes], status: Status, text: str) -> None:
        path = self.headers[":path"]
        self.all.append(Answered(path, messages, (status, text)))
        if path == LAST:
            self.file.write_bytes(pickle.dumps(self.all))
            self.all.clear()


class Replay:
    """Answers by method, in the order of the recorded run; it holds a task's fifos for its shim."""

    def __init__(self, answers: list[Answered], root: Path) -> None:
        self._by_path: dict[str, list[Answered]] = defaultdict(list)
        for answered in answers:
            self._by_path[answered.path].append(answered)
        self._turn: Counter[str] = Counter()
        self._root = root
        self._fifos: list[int] = []

    def of(self, path: str) -> tuple[http2.Answer, bool]:
        return self._answer, False

    def _answer(self, stream: ServerStream) -> Rest | None:
        path, request = stream.headers[":path"], stream.only() or b""
        if path == LAST:
            self._turn.clear()
        known = self._by_path[path]
        if not known:
            stream.finish(Status.UNIMPLEMENTED, f"{path} was not asked when answers were recorded")
            return None
        answered = known[min(self._turn[path], len(known) - 1)]
        self._turn[path] += 1
        method = path.rpartition("/")[2]
        if path.endswith("Tasks/Create"):
            task = tasks_pb2.CreateTaskRequest.FromString(request)
            flags = os.O_RDWR | os.O_NONBLOCK
            self._fifos = [os.open(name, flags) for name in (task.stdout, task.stderr) if name]
        elif path.endswith("Tasks/Wait"):
            while self._fifos:
                os.close(self._fifos.pop())
        messages = answered.messages
        if method == "Mounts":
            messages = [self._mounts(message) for message in messages]
        if len(messages) == 1 and answered.ended[0] is Status.OK:
            stream.answer(messages[0])
        else:
            stream.finish(*answered.ended)
        return None

    def _mounts(self, message: bytes) -> bytes:
        """The client mounts the root by itself, to look a user up: on directories of this run."""
        answer = snapshots_pb2.MountsResponse.FromString(message)
        for mount in answer.mounts:
            for kind in ("upperdir", "workdir"):
                (self._root / kind).mkdir(exist_ok=True)
            kept = [one for one in mount.options if not one.startswith(("upperdir", "workdir"))]
            del mount.options[:]
            mount.options.extend(kept)
            mount.options.extend(f"{kind}={self._root}/{kind}" for kind in ("upperdir", "workdir"))
        return answer.SerializeToString()


async def replay(file: Path, socket: str, root: Path) -> None:
    answers = Replay(pickle.loads(file.read_bytes()), root)  # our own
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: ServerConnection(answers.of), socket)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


class RecordingNode(Node):
    """Our containerd, with what it answers kept in `answers`."""

    @property
    def answers(self) -> Path:
        return self.root / "answers"

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def command(self) -> Sequence[str]:
        return (*COMMAND, "record", str(self.answers), self.address, str(self.root))


@contextmanager
def answering() -> Iterator[Node]:
    """A node to run `bench` on, with `--rm` and our runtime, that is answered at once."""
    with node("ours", made=RecordingNode, run_in_memory=True) as recorded:
        assert isinstance(recorded, RecordingNode)
        for _ in range(WARM_UP):
            done = recorded.run("bench", "true", runtime=OURS, flags=("--rm",))
            assert done.returncode == 0, done.stderr
        it = Node(recorded.root, "ours")
        it.address, it.word = f"{recorded.root}/r.sock", recorded.word
        words = ("replay", str(recorded.answers), it.address, str(recorded.root))
        server = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield it
        finally:
            server.kill()
            server.communicate()


def main(do: str, file: str, socket: str, root: str) -> None:
    if do == "replay":
        asyncio.run(replay(Path(file), socket, Path(root)))
        return
    Recorded.file = Path(file)
    http2.ServerStream = Recorded  # type: ignore[misc]
    asyncio.run(serve(Config(Path(root) / "root", Path(root) / "state", socket)))


if __name__ == "__main__":
    main(*sys.argv[1:])
