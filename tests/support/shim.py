"""A shim inside a test: its zygote, a ttrpc client for it, the containerd that takes its events.

with shims(root) as it:
    shim = it.start("one", rootfs.config("true"))
    shim.call("Create", ...)
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from barque import program
from barque.shim import messages, sandbox_messages, ttrpc, wire
from tests.support import cgroups, rootfs

NAMESPACE = "test"
NAME = "containerd-shim-barque-v2"
METHODS = {**messages.METHODS, **sandbox_messages.METHODS}
TIMEOUT_S = 20.0
UNIFIED = "/sys/fs/cgroup/unified"


class EventTaker:
    """containerd's end of the events: a ttrpc server in a thread. `told` holds topic and values."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._news = threading.Condition()
        self._connections: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """As when containerd dies."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        os.unlink(self.path)
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        parser = ttrpc.Parser()
        while True:
            try:
                data = connection.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            for frame in parser.feed(data):
                self._take(ttrpc.parse_request(frame.data))
                with suppress(OSError):
                    connection.sendall(ttrpc.response(frame.stream, b""))

    def _take(self, call: dict[str, Any]) -> None:
        assert call["service"] == messages.EVENTS_SERVICE
        envelope = wire.decode(messages.FORWARD_REQUEST, call["payload"])["envelope"]
        table = messages.TASK_EVENTS[envelope["topic"]]
        assert envelope["event"]["type_url"] == table.name
        assert envelope["namespace"] == NAMESPACE
        values = wire.decode(table, envelope["event"]["value"])
        with self._news:
            self.told.append((envelope["topic"], values))
            self._news.notify_all()

    def wait(self, topic: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The `count`th event of this topic with these fields."""

        def found() -> list[dict[str, Any]]:
            return [
                values
                for name, values in self.told
                if name == topic and all(values[key] == item for key, item in fields.items())
            ]

        with self._news:
            arrived = self._news.wait_for(lambda: len(found()) >= count, TIMEOUT_S)
            assert arrived, f"no {topic} {fields} in {self.told}"
            return found()[count - 1]

    def topics(self) -> list[str]:
        return [topic.removeprefix("/tasks/") for topic, _ in self.told]


class Client:
    """One ttrpc connection to a shim; calls may be under way at once."""

    def __init__(self, address: str, connected: socket.socket | None = None) -> None:
        self._socket = connected or socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        if connected is None:
            self._socket.connect(address.removeprefix("unix://"))
        self._parser = ttrpc.Parser()
        self._stream = -1
        self._answers: dict[int, bytes] = {}

    def send(self, method: str, **values: Any) -> int:
        """Start a call; the number to give to `answer`."""
        self._stream += 2
        payload = wire.encode(METHODS[method][0], values)
        sandbox = method in sandbox_messages.METHODS
        service = sandbox_messages.SERVICE if sandbox else messages.TASK_SERVICES[0]
        self._socket.sendall(ttrpc.request(self._stream, service, method, payload))
        return self._stream

    def answer(self, number: int, method: str) -> dict[str, Any]:
        while number not in self._answers:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the shim closed the connection")
            for frame in self._parser.feed(data):
                self._answers[frame.stream] = frame.data
        payload = ttrpc.parse_response(self._answers.pop(number))
        return wire.decode(METHODS[method][1], payload)

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        return self.answer(self.send(method, **values), method)

    def close(self) -> None:
        self._socket.close()


class Shim:
    """A started shim and a client of it."""

    def __init__(self, owner: Shims, identity: str, bundle: Path, address: str) -> None:
        self._owner = owner
        self.id = identity
        self.bundle = bundle
        self.address = address
        self.pid = int((bundle / "shim.pid").read_text())
        self.client = Client(address)

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        return self.client.call(method, id=self.id, **values)

    def create(self, *, shim_cgroup: str = "", **values: Any) -> int:
        """Create the task, with the runtime of the test; its pid."""
        options = self._owner.options(shim_cgroup=shim_cgroup)
        answer = self.call("Create", bundle=str(self.bundle), options=options, **values)
        pid: int = answer["pid"]
        return pid

    def exec(
        self, exec_id: str, *args: str, process: dict[str, Any] | None = None, **io: Any
    ) -> None:
        """Add an exec that runs `args`."""
        spec = {**rootfs.config(*args)["process"], "terminal": io.get("terminal", False)}
        spec.update(process or {})
        value = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Process"}
        spec_any = {**value, "value": json.dumps(spec).encode()}
        self.call("Exec", exec_id=exec_id, spec=spec_any, **io)

    def run_to_end(self) -> int:
        """Start, wait, delete and shut down; the exit status."""
        self.call("Start")
        status: int = self.call("Wait")["exit_status"]
        self.end()
        return status

    def end(self) -> None:
        """Delete a task that has ended, and the shim; asserts that the shim leaves."""
        self.call("Delete")
        self.shutdown()

    def shutdown(self, method: str = "Shutdown", **values: Any) -> None:
        pidfd = os.pidfd_open(self.pid)
        try:
            self.client.call(method, **(values or {"id": self.id}))
            ready, _, _ = select.select([pidfd], [], [], TIMEOUT_S)
            assert ready, "the shim did not end"
        finally:
            os.close(pidfd)
        self.client.close()
        assert not os.path.exists(self.address.removeprefix("unix://"))
        self._owner.started.remove(self)


class Shims:
    """The zygote of a test and the shims it forked. `runtime`: BinaryName, or empty for ours."""

    def __init__(self, root: Path, runtime: str) -> None:
        self.root = root
        self.runtime = runtime
        self.started: list[Shim] = []
        self.others: list[Path] = []  # bundles of containers in a shim that is another's
        self.address = str(root / "c.sock")
        self.events = EventTaker(f"{self.address}.ttrpc")
        self.zygote_path = str(root / "z.sock")
        self.zygote = self._zygote()

    def _zygote(self) -> subprocess.Popen[bytes]:
        command = program.command(NAME, "zygote", self.zygote_path)
        if self.runtime == "crun":  # it refuses hybrid cgroups: show it version 1 alone
            script = f'! mountpoint -q {UNIFIED} || umount {UNIFIED}; exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        zygote = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert zygote.stdout is not None
        assert zygote.stdout.readline() == b"ready\n"
        return zygote

    def options(self, **more: str) -> dict[str, Any]:
        """The runtime's options: that of the test, with a root of the test's own."""
        values = {"binary_name": self.runtime, "root": str(self.root / "r"), **more}
        return {
            "type_url": messages.RUNC_OPTIONS.name,
            "value": wire.encode(messages.RUNC_OPTIONS, values),
        }

    def request(self, packet: bytes, *descriptors: int) -> dict[str, Any]:
        """One exchange with the zygote."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(self.zygote_path)
            socket.send_fds(connection, [packet], descriptors)
            answer: dict[str, Any] = json.loads(connection.recv(1 << 17))
            return answer

    def invoke(
        self, bundle: Path, identity: str, action: str, stdin: bytes = b"", *descriptors: int
    ) -> dict[str, Any]:
        """What the shim binary would do, through the zygote."""
        argv = ["-namespace", NAMESPACE, "-address", self.address, "-publish-binary", "/bin/false"]
        return self.request(
            json.dumps(
                {
                    "argv": [*argv, "-id", identity, action],
                    "env": {"TTRPC_ADDRESS": f"{self.address}.ttrpc"},
                    "cwd": str(bundle),
                    "stdin": stdin.decode("latin-1"),
                }
            ).encode(),
            *descriptors,
        )

    def start(self, identity: str, spec: dict[str, Any]) -> Shim:
        """A shim for a new bundle."""
        spec["linux"]["cgroupsPath"] = f"/{self.root.name}/{identity}"
        return self.attach(identity, rootfs.write_bundle(self.root / identity, spec))

    def attach(self, identity: str, bundle: Path, stdin: bytes = b"") -> Shim:
        """A shim for a bundle that is there."""
        answer = self.invoke(bundle, identity, "start", stdin)
        assert answer["code"] == 0, answer
        shim = Shim(self, identity, bundle, answer["stdout"])
        self.started.append(shim)
        return shim

    def close(self) -> None:
        """End what the test left running, and the zygote."""
        for shim in self.started:
            with suppress(ProcessLookupError):
                os.kill(shim.pid, 9)
            shim.client.close()
            self.invoke(shim.bundle, shim.id, "delete")
        for bundle in self.others:
            self.invoke(bundle, bundle.name, "delete")
        assert self.zygote.stdin is not None
        self.zygote.stdin.close()
        assert self.zygote.wait(TIMEOUT_S) == 0
        self.events.close()


@contextmanager
def shims(runtime: str = "") -> Iterator[Shims]:
    """Nothing is left afterwards: no mount, no cgroup, no process, no directory."""
    with rootfs.temporary() as root:
        it = Shims(root, runtime)
        try:
            yield it
        finally:
            it.close()
            left = cgroups.remove(root.name)
        assert left == [], f"control groups left behind: {left}"


class Attached:
    """A client of a stdio socket."""

    def __init__(self, path: str, **hello: bool) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.socket.sendall(json.dumps(hello).encode() + b"\n")
        self._buffer = b""
        self.answer: dict[str, Any] = json.loads(self._line())

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed before the first line")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def read_raw(self) -> bytes:
        """Everything until the shim closes."""
        parts = [self._buffer]
        while data := self.socket.recv(1 << 16):
            parts.append(data)
        self._buffer = b""
        return b"".join(parts)

    def read_until(self, text: bytes) -> bytes:
        """Raw bytes up to and with `text`."""
        while text not in self._buffer:
            data = self.socket.recv(1 << 16)
            assert data, f"end of stream after {self._buffer!r}"
            self._buffer += data
        cut = self._buffer.index(text) + len(text)
        taken, self._buffer = self._buffer[:cut], self._buffer[cut:]
        return taken

    def streams(self) -> tuple[bytes, bytes]:
        """Standard output and error until the shim closes."""
        return unframe(self.read_raw())

    def close(self) -> None:
        self.socket.close()


def unframe(data: bytes) -> tuple[bytes, bytes]:
    """Docker's frames, taken apart by stream."""
    out = {1: b"", 2: b""}
    while data:
        stream, length = data[0], int.from_bytes(data[4:8], "big")
        assert data[1:4] == b"\0\0\0"
        assert len(data) >= 8 + length
        out[stream] += data[8 : 8 + length]
        data = data[8 + length :]
    return out[1], out[2]


def eventually(check: Any, what: str) -> None:
    """Wait for something that has no notification."""
    deadline = time.monotonic() + TIMEOUT_S
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The children of a process with one thread."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
