"""A second implementation of a shim, from containerd's protocol alone: for what ours cannot show.

    shim_double.py KIND [flags] start | delete | -info

It has the Sandbox service and the Task service, over ttrpc or gRPC; its processes are programs
that sleep, and its containers are no containers. What it was asked lies in `asked` in its bundle, a
line a call: the method, the request in hexadecimal. KIND is how `start` answers: `plain`, `json2`,
`json3`, or `grpc`, which is of version 3 too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from barque.containerd.proto import sandbox_shim_pb2 as sandbox
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.introspection_types_pb2 import RuntimeInfo
from barque.containerd.proto.task_types_pb2 import Status

VERSIONS = {"plain": 2, "json2": 2, "json3": 3, "grpc": 3}
HEADER = struct.Struct(">IIBB")  # length, stream, kind, flags
REQUEST, RESPONSE = 1, 2
UNKNOWN, NOT_FOUND, UNIMPLEMENTED = 2, 5, 12


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def lengthy(number: int, data: bytes) -> bytes:
    """One length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data: bytes) -> dict[int, Any]:
    """The fields of a message that has numbers and length-delimited ones alone."""
    found: dict[int, Any] = {}
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        value: Any = number()
        if key & 7 == 2:
            place += value
            value = data[place - value : place]
        found[key >> 3] = value
    return found


class Failed(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Process:
    """One that sleeps until it is killed."""

    def __init__(self) -> None:
        self.running: subprocess.Popen[bytes] | None = None
        self.at = Timestamp()

    def start(self) -> int:
        self.running = subprocess.Popen(["sleep", "1000"])
        return self.running.pid

    @property
    def pid(self) -> int:
        return self.running.pid if self.running is not None else 0

    def status(self) -> Status.ValueType:
        if self.running is None:
            return Status.CREATED
        return Status.RUNNING if self.running.poll() is None else Status.STOPPED

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()

    def wait(self) -> dict[str, Any]:
        """Its exit, as fields of an answer."""
        while self.running is None:
            time.sleep(0.02)
        code = self.running.wait()
        if not self.at.seconds:
            self.at.GetCurrentTime()
        return {"exit_status": code if code >= 0 else 128 - code, "exited_at": self.at}


class Double:
    def __init__(self, kind: str) -> None:
        version = VERSIONS[kind]
        self.pod: Process | None = None
        self.tasks: dict[str, Process] = {}
        self.ended = threading.Event()
        self.held: list[Any] = []  # what must not be collected
        self.services = {
            "containerd.runtime.sandbox.v1.Sandbox": (sandbox, "Sandbox"),
            f"containerd.task.v{version}.Task": (task, "Task"),
        }

    def call(self, service: str, method: str, payload: bytes) -> bytes:
        if service not in self.services:
            raise Failed(UNIMPLEMENTED, f"service {service}")
        module, name = self.services[service]
        described = module.DESCRIPTOR.services_by_name[name].methods_by_name[method]
        request = getattr(module, described.input_type.name).FromString(payload)
        with open("asked", "a") as file:
            file.write(f"{method} {payload.hex()}\n")
        handler: Callable[[Any], Message] = getattr(self, f"{name.lower()}_{method}")
        return handler(request).SerializeToString()

    def _pod(self) -> Process:
        if self.pod is None:
            raise Failed(NOT_FOUND, "no sandbox")
        return self.pod

    def _task(self, id: str) -> Process:
        if id not in self.tasks:
            raise Failed(NOT_FOUND, f"no task {id}")
        return self.tasks[id]

    # Sandbox

    def sandbox_CreateSandbox(self, request: Any) -> Message:
        if request.options.type_url == "test.Refused":
            raise Failed(NOT_FOUND, "what it wants is not here")
        self.pod = Process()
        return sandbox.CreateSandboxResponse()

    def sandbox_StartSandbox(self, request: Any) -> Message:
        pid = self._pod().start()
        Path("pids").write_text(str(pid))
        return sandbox.StartSandboxResponse(pid=pid, created_at=Timestamp(seconds=1))

    def sandbox_Platform(self, request: Any) -> Message:
        answer = sandbox.PlatformResponse()
        answer.platform.os, answer.platform.architecture = "linux", "of the double"
        return answer

    def sandbox_StopSandbox(self, request: Any) -> Message:
        self._pod().kill()
        self._pod().wait()
        return sandbox.StopSandboxResponse()

    def sandbox_WaitSandbox(self, request: Any) -> Message:
        return sandbox.WaitSandboxResponse(**self._pod().wait())

    def sandbox_SandboxStatus(self, request: Any) -> Message:
        ready = self._pod().status() == Status.RUNNING
        answer = sandbox.SandboxStatusResponse(
            sandbox_id=request.sandbox_id,
            pid=self._pod().pid,
            state="SANDBOX_READY" if ready else "SANDBOX_NOTREADY",
            info={"kind": "double"} if request.verbose else {},
        )
        answer.extra.type_url = "test.Extra"
        return answer

    def sandbox_PingSandbox(self, request: Any) -> Message:
        self._pod()
        return sandbox.PingResponse()

    def sandbox_ShutdownSandbox(self, request: Any) -> Message:
        for process in (self.pod, *self.tasks.values()):
            if process is not None:
                process.kill()
        self.ended.set()
        return sandbox.ShutdownSandboxResponse()

    def sandbox_SandboxMetrics(self, request: Any) -> Message:
        answer = sandbox.SandboxMetricsResponse()
        answer.metrics.id = "of the double"
        return answer

    # Task

    def task_Create(self, request: Any) -> Message:
        self.tasks[request.id] = Process()
        return task.CreateTaskResponse(pid=self.tasks[request.id].start())

    def task_Start(self, request: Any) -> Message:
        return task.StartResponse(pid=self._task(request.id).pid)

    def task_State(self, request: Any) -> Message:
        found = self._task(request.id)
        return task.StateResponse(id=request.id, pid=found.pid, status=found.status())

    def task_Kill(self, request: Any) -> Message:
        self._task(request.id).kill()
        return Empty()

    def task_Wait(self, request: Any) -> Message:
        return task.WaitResponse(**self._task(request.id).wait())

    def task_Delete(self, request: Any) -> Message:
        ended = self._task(request.id).wait()
        return task.DeleteResponse(pid=self.tasks.pop(request.id).pid, **ended)

    def task_Shutdown(self, request: Any) -> Message:
        if self.pod is None and not self.tasks:
            self.ended.set()
        return Empty()


def serve(listener: socket.socket, double: Double) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection, double), daemon=True).start()


def converse(connection: socket.socket, double: Double) -> None:
    sending = threading.Lock()
    with connection.makefile("rb") as stream:
        while head := stream.read(HEADER.size):
            length, number, kind, _ = HEADER.unpack(head)
            data = stream.read(length)
            if kind == REQUEST:
                work = (connection, sending, number, data, double)
                threading.Thread(target=answer, args=work, daemon=True).start()


def answer(
    connection: socket.socket, sending: threading.Lock, number: int, data: bytes, double: Double
) -> None:
    asked = fields(data)
    service, method = asked[1].decode(), asked[2].decode()
    try:
        body = lengthy(2, double.call(service, method, asked.get(3, b"")))
    except Exception as error:
        code = error.code if isinstance(error, Failed) else UNKNOWN
        body = lengthy(1, varint(1 << 3) + varint(code) + lengthy(2, str(error).encode()))
    with sending:
        connection.sendall(HEADER.pack(len(body), number, RESPONSE, 0) + body)


def serve_ttrpc(path: str, double: Double) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=serve, args=(listener, double), daemon=True).start()


def serve_grpc(path: str, double: Double) -> None:
    """By Google's library."""
    import grpc  # type: ignore[import-untyped]

    codes = {code.value[0]: code for code in grpc.StatusCode}

    class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            _, service, method = call.method.split("/")

            def answered(payload: bytes, context: Any) -> bytes:
                try:
                    return double.call(service, method, payload)
                except Failed as error:
                    context.abort(codes[error.code], str(error))
                    raise

            return grpc.unary_unary_rpc_method_handler(answered)

    server = grpc.server(ThreadPoolExecutor(32), handlers=[Methods()])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    double.held.append(server)


def start(kind: str) -> None:
    """Leave a server behind; its address is what `start` prints."""
    path = os.path.abspath("s")
    listening, told = os.pipe()
    if os.fork() == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        double = Double(kind)
        (serve_grpc if kind == "grpc" else serve_ttrpc)(path, double)
        os.write(told, b".")
        double.ended.wait()
        time.sleep(0.1)  # the last answer is on its way
        os._exit(0)
    os.close(told)
    if not os.read(listening, 1):
        sys.exit("the server did not start")
    address = f"unix://{path}"
    protocol = "grpc" if kind == "grpc" else "ttrpc"
    bootstrap = {"version": VERSIONS[kind], "address": address, "protocol": protocol}
    print(address if kind == "plain" else json.dumps(bootstrap), flush=True)


def delete() -> None:
    try:
        pid = int(Path("pids").read_text())
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pid = 0
    sys.stdout.buffer.write(task.DeleteResponse(pid=pid, exit_status=137).SerializeToString())


def install(directory: Path, kind: str) -> Path:
    """A shim binary of this kind: what a runtime's name may be."""
    path = directory / f"containerd-shim-{kind}-v1"
    source = Path(__file__).resolve().parents[2] / "src"
    command = f'exec "{sys.executable}" -P "{__file__}" {kind} "$@"'  # beside us is no package
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{source}" {command}\n')
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    if sys.argv[-1] == "start":
        start(sys.argv[1])
    elif sys.argv[-1] == "delete":
        delete()
    elif sys.argv[-1] == "-info":
        described = RuntimeInfo(name="the double", annotations={"given": sys.stdin.read()})
        sys.stdout.buffer.write(described.SerializeToString())
