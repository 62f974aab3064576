"""SCMP_ACT_NOTIFY: a process of the host decides on the container's calls. config-linux.md."""

import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS = pytest.mark.runtimes("warm")
NOTIFICATION = "<QIIiIQ6Q"
RECEIVE, ANSWER = 0xC0502100, 0xC0182101
PATIENCE_S = 20.0


class Agent:
    """Takes listeners at a unix socket and refuses every call that it is asked about."""

    def __init__(self, path: Path, error: int) -> None:
        self.error = error
        self.states: list[dict[str, Any]] = []
        self.answered = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.stop, self.stopped = socket.socketpair()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self) -> "Agent":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.close()
        self.thread.join()
        self.socket.close()
        self.stopped.close()

    def serve(self) -> None:
        listeners: list[int] = []
        while True:
            fds = (self.socket.fileno(), self.stopped.fileno(), *listeners)
            ready, _, _ = select.select(fds, [], [])
            if self.stopped.fileno() in ready:
                break
            if self.socket.fileno() in ready:
                listeners.append(self.take())
            for fd in [fd for fd in listeners if fd in ready]:
                if not self.answer(fd):
                    listeners.remove(fd)
                    os.close(fd)
        for fd in listeners:
            os.close(fd)

    def take(self) -> int:
        connection, _ = self.socket.accept()
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 65536, 1)
        self.states.append(json.loads(data))
        return fds[0]

    def answer(self, fd: int) -> bool:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not any(events & select.POLLIN for _, events in poller.poll(0)):
            return False  # nobody is left to ask; kernels before 6.11 would wait for ever
        buffer = bytearray(80)
        try:
            fcntl.ioctl(fd, RECEIVE, buffer)
            identifier = struct.unpack(NOTIFICATION, buffer)[0]
            fcntl.ioctl(fd, ANSWER, struct.pack("<QqiI", identifier, 0, -self.error, 0))
        except OSError:
            return False
        self.answered += 1
        return True


def profile(path: Path, *names: str, **more: Any) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": str(path),
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
        **more,
    }


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_the_agent_decides(case: Case, no_new_privs: bool) -> None:
    path = case.place / "agent"
    with Agent(path, errno.EXDEV) as agent:
        spec = case.configure("sh", "-c", "mkdir /tmp/x; sleep 1000", noNewPrivileges=no_new_privs)
        names = ("mkdir", "mkdirat")
        spec["linux"]["seccomp"] = profile(path, *names, listenerMetadata="for the agent")
        spec["annotations"] = {"a": "b"}
        case.started(spec=spec)
        pid = case.runtime.pid(case.id)
        result = case.call("exec", case.id, "mkdir", "/tmp/y")
        assert result.code == 1
        assert os.strerror(errno.EXDEV) in result.err
        first, second = agent.states
        assert first["metadata"] == second["metadata"] == "for the agent"
        assert first["fds"] == ["seccompFd"]
        assert first["pid"] == first["state"]["pid"] == pid
        assert first["state"]["id"] == case.id
        assert first["state"]["status"] == "creating"
        assert first["state"]["annotations"]["a"] == "b"
        assert second["pid"] != pid
        assert second["state"]["pid"] in (pid, 0)  # crun says 0


@OURS
def test_calls_of_the_start_itself(case: Case) -> None:
    """What the new process does to start is decided on as well: nothing blocks for ever."""
    path = case.place / "agent"
    with Agent(path, errno.ENOSYS) as agent:
        spec = case.configure("true")
        spec["linux"]["seccomp"] = profile(path, "fchmodat2", "arch_prctl", "rseq", "sendmsg")
        assert case.run(spec=spec).code in (0, 1, 127, 139)
        assert agent.answered > 0


@OURS
def test_without_an_agent(case: Case) -> None:
    path = case.place / "nobody"
    spec = case.configure("true")
    spec["linux"]["seccomp"] = profile(path, "mkdir")
    result = case.run(spec=spec)
    assert result.code == 1
    assert f"failed to connect with seccomp agent {path}" in result.err
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path)}
    assert case.run(spec=spec).code == 0  # nobody is asked


@OURS
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "cannot be used as default action"),
        ({"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}, "write syscall"),
        ({"listenerPath": ""}, "needs a listenerPath"),
        ({"syscalls": [], "listenerPath": "", "listenerMetadata": "x"}, "needs a listenerPath"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "takes no errno"),
    ],
)
def test_what_cannot_be(case: Case, change: dict[str, Any], words: str) -> None:
    spec = case.configure("true")
    spec["linux"]["seccomp"] = {**profile(case.place / "agent", "mkdir"), **change}
    result = case.run(spec=spec)
    assert result.code == 1
    assert words in result.err


@OURS
@pytest.mark.parametrize(
    "flag",
    ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"],
)
def test_every_flag(case: Case, flag: str) -> None:
    path = case.place / "agent"
    with Agent(path, errno.EXDEV) as agent:
        spec = case.configure("mkdir", "/tmp/x")
        flags = [f"SECCOMP_FILTER_FLAG_{flag}"]
        spec["linux"]["seccomp"] = profile(path, "mkdir", "mkdirat", flags=flags)
        assert case.run(spec=spec).code == 1
        assert agent.answered == 1


@pytest.mark.runtimes("warm", "runc")
@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("KILL", 128 + 31),
        ("KILL_THREAD", 128 + 31),
        ("KILL_PROCESS", 128 + 31),
        ("TRAP", 128 + 31),
        ("ERRNO", 1),
        ("TRACE", 1),
        ("ALLOW", 0),
        ("LOG", 0),
    ],
)
def test_every_action(case: Case, action: str, code: int) -> None:
    spec = case.configure("mkdir", "/tmp/x")
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW" if action != "ALLOW" else "SCMP_ACT_LOG",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": f"SCMP_ACT_{action}"}],
    }
    assert case.run(spec=spec).code == code


@pytest.mark.runtimes("warm", "runc")
@pytest.mark.parametrize(
    ("operator", "value", "second", "refused"),
    [
        ("NE", 0o700, 0, "755"),
        ("LT", 0o701, 0, "700"),
        ("LE", 0o700, 0, "700"),
        ("EQ", 0o700, 0, "700"),
        ("GE", 0o755, 0, "755"),
        ("GT", 0o754, 0, "755"),
        ("MASKED_EQ", 0o055, 0o055, "755"),
    ],
)
def test_every_operator(case: Case, operator: str, value: int, second: int, refused: str) -> None:
    script = "chmod 700 /tmp && echo 700; chmod 755 /tmp && echo 755; true"
    spec = case.configure("sh", "-c", script)
    argument = {"index": 1, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{operator}"}
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [argument]}],
    }
    assert case.run(spec=spec).out.split() == [n for n in ("700", "755") if n != refused]
