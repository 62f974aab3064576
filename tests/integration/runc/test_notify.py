"""sd_notify(3) from a container to the service manager that started the runtime."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.peer]


@contextmanager
def manager(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(20)
        yield listener


def told(listener: socket.socket) -> list[str]:
    """What is told up to the barrier, which is answered."""
    lines: list[str] = []
    while True:
        data, fds, _, _ = socket.recv_fds(listener, 4096, 1)
        for fd in fds:
            os.close(fd)
        lines += data.decode().split()
        if "BARRIER=1" in lines:
            return lines[:-1]


def install_notifier(case: Case) -> None:
    """A program of the image that tells what it is given; busybox has none."""
    source = case.place / "notifier.c"
    source.write_text(
        """
        #include <string.h>
        #include <stdlib.h>
        #include <unistd.h>
        #include <sys/socket.h>
        #include <sys/un.h>
        int main(int argc, char **argv) {
            struct sockaddr_un a = { .sun_family = AF_UNIX };
            int s = socket(AF_UNIX, SOCK_DGRAM, 0);
            strncpy(a.sun_path, getenv("NOTIFY_SOCKET"), sizeof a.sun_path - 1);
            for (int i = 1; i < argc; i++)
                if (sendto(s, argv[i], strlen(argv[i]), 0, (void *)&a, sizeof a) < 0) return 1;
            pause();
        }
        """
    )
    program = case.rootfs / "bin/notifier"
    subprocess.run(["cc", "-static", "-o", program, source], check=True)


@pytest.mark.runtimes("ours")
def test_readiness(case: Case) -> None:
    install_notifier(case)
    case.write(case.configure("notifier", "STATUS=starting", "READY=1"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    with manager(path) as listener:
        argv = case.runtime.argv("create", "--bundle", str(case.bundle), case.id)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(argv, env=environment, check=True, **quiet)  # type: ignore[call-overload]
        start = subprocess.Popen(case.runtime.argv("start", case.id), env=environment)
        assert told(listener) == ["READY=1", f"MAINPID={case.runtime.pid(case.id)}"]
        assert start.wait(20) == 0
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)


@pytest.mark.runtimes("ours")
def test_one_that_ends_without_a_word(case: Case) -> None:
    case.write(case.configure("sh", "-c", "ls -l $NOTIFY_SOCKET"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    with manager(path) as listener:
        argv = case.runtime.argv("run", "--detach", "--bundle", str(case.bundle), case.id)
        with open(case.place / "out", "w") as out:
            stdin = subprocess.DEVNULL
            subprocess.run(argv, env=environment, check=True, stdin=stdin, stdout=out)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(4096)
    case.runtime.wait_stopped(case.id)
    assert "/run/notify/notify.sock" in (case.place / "out").read_text()


@pytest.mark.runtimes("ours")
def test_a_long_root(case: Case) -> None:
    """The container's socket lies deeper than the path of a socket may be long."""
    deep = case.place / ("d" * 120)
    deep.mkdir()
    install_notifier(case)
    case.write(case.configure("notifier", "READY=1"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    entry = case.runtime.argv()[:-2]
    runtime = [*entry, "--root", str(deep)]
    with manager(path) as listener:
        run = [*runtime, "run", "--detach", "--bundle", str(case.bundle), case.id]
        with open(os.devnull) as nothing, open(os.devnull, "w") as sink:
            process = subprocess.Popen(run, env=environment, stdin=nothing, stdout=sink)
        assert told(listener)[0] == "READY=1"
        assert process.wait(20) == 0
    subprocess.run([*runtime, "delete", "--force", case.id], check=True)
