"""Log drivers that send lines elsewhere: the same on the wire as Debian's dockerd; nothing lost."""

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.barque import Stack
from tests.support.docker_peer import Peer, docker_peer

pytestmark = [pytest.mark.root, pytest.mark.peer]
WAIT_S = 20
SCRIPT = "echo one; echo 'two words'; sleep 0.2; echo bad >&2"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with docker_peer() as made:
        yield made


def until(call: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not call():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Receiver:
    """Keeps all it gets: each datagram, or the bytes of all connections together."""

    def __init__(self, path: Path, kind: int) -> None:
        self.listener = socket.socket(socket.AF_UNIX, kind)
        self.listener.bind(str(path))
        self.got: list[bytes] = []
        self.clients: list[socket.socket] = []
        if kind == socket.SOCK_STREAM:
            self.listener.listen()
        self.kind = kind
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                if self.kind == socket.SOCK_DGRAM:
                    self.got.append(self.listener.recv(65536))
                    continue
                client, _ = self.listener.accept()
                self.clients.append(client)
                threading.Thread(target=self._read, args=(client,), daemon=True).start()
        except OSError:
            return

    def _read(self, client: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                self.got.append(data)
        except OSError:
            return

    def close(self) -> None:
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def receiver(path: Path, kind: int) -> Iterator[Receiver]:
    made = Receiver(path, kind)
    try:
        yield made
    finally:
        made.close()
        path.unlink()


def run(daemon: Stack | Peer, driver: str, *options: str, name: str = "sender") -> None:
    flags = [word for option in options for word in ("--log-opt", option)]
    daemon.docker(
        *("run", "--network", "none", "--name", name, "--label", "shown=yes", "-e", "KEPT=1"),
        *("--log-driver", driver, *flags, "busybox", "sh", "-c", SCRIPT),
    )


def remove(daemon: Stack | Peer) -> None:
    daemon.docker("rm", "-f", "sender", check=False)


@pytest.mark.parametrize("format", ["rfc3164", "rfc5424", "rfc5424micro"])
@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_syslog_lines_are_docker_s(
    barque: Stack, peer: Peer, tmp_path: Path, format: str, kind: str
) -> None:
    found = []
    for daemon in (barque, peer):
        path = tmp_path / "s"
        with receiver(path, socket.SOCK_STREAM if kind == "unix" else socket.SOCK_DGRAM) as there:
            try:
                run(
                    *(daemon, "syslog", f"syslog-address={kind}://{path}"),
                    *(f"syslog-format={format}", "tag={{.Name}}", "syslog-facility=local1"),
                )
                until(lambda there=there: b"".join(there.got).count(b"\n") == 3)
                text = b"".join(there.got).decode()
            finally:
                remove(daemon)
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", "TIME", text)
        text = re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d", "TIME", text)
        found.append(re.sub(r"(\[| )\d+(\]| )", r"\1PID\2", text))
    assert found[0] == found[1]
    assert "two words" in found[0]


def test_gelf_documents_are_docker_s(barque: Stack, peer: Peer) -> None:
    """The peer sends from its own network namespace: only what is in the documents is compared."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        there.settimeout(WAIT_S)
        port = there.getsockname()[1]
        options = (f"gelf-address=udp://127.0.0.1:{port}", "labels=shown", "env=KEPT")
        try:
            run(barque, "gelf", *options)
            documents = [json.loads(gzip.decompress(there.recv(65536))) for _ in range(3)]
        finally:
            remove(barque)
    assert [d["short_message"] for d in documents] == ["one", "two words", "bad"]
    assert [d["level"] for d in documents] == [6, 6, 3]
    assert {(d["_container_name"], d["_shown"], d["_KEPT"]) for d in documents} == {
        ("sender", "yes", "1")
    }


def records(raw: bytes) -> list[Any]:
    """The msgpack values one behind the other."""
    found, at = [], 0
    while at < len(raw):
        for end in range(at + 1, len(raw) + 1):
            try:
                found.append(msgspec.msgpack.decode(raw[at:end]))
            except msgspec.DecodeError:
                continue
            at = end
            break
        else:
            break
    return found


def test_fluentd_records_are_docker_s(barque: Stack, peer: Peer, tmp_path: Path) -> None:
    found = []
    for daemon in (barque, peer):
        path = tmp_path / "f"
        with receiver(path, socket.SOCK_STREAM) as there:
            try:
                options = (f"fluentd-address=unix://{path}", "tag=x.{{.Name}}", "labels=shown")
                run(daemon, "fluentd", *options)
                until(lambda there=there: len(records(b"".join(there.got))) == 3)
                told = records(b"".join(there.got))
            finally:
                remove(daemon)
        for record in told:
            assert len(record[2].pop("container_id")) == 64
        found.append([(record[0], record[2]) for record in told])
    assert found[0] == found[1]


def test_nobody_to_send_to_is_told_at_start(barque: Stack, peer: Peer) -> None:
    for daemon in (barque, peer):
        options = ("--log-driver", "fluentd", "--log-opt", "fluentd-address=unix:///nonexistent/s")
        done = daemon.docker("run", "--rm", *options, "busybox", "true", check=False)
        assert done.returncode in (125, 127)  # the peer takes the receiver for the program
        assert b"failed to initialize logging driver" in done.stderr
        assert daemon.docker("ps", "-aq").stdout == b""


def test_logs_can_be_read_all_the_same(barque: Stack, tmp_path: Path) -> None:
    with receiver(tmp_path / "s", socket.SOCK_DGRAM):
        try:
            run(barque, "syslog", f"syslog-address=unixgram://{tmp_path}/s", "mode=non-blocking")
            done = barque.docker("logs", "sender")
            assert (done.stdout, done.stderr) == (b"one\ntwo words\n", b"bad\n")
            remove(barque)
            run(barque, "syslog", f"syslog-address=unixgram://{tmp_path}/s", "cache-disabled=true")
            done = barque.docker("logs", "sender", check=False)
            assert b"does not support reading" in done.stderr
        finally:
            remove(barque)


def test_no_line_is_lost_when_the_daemon_dies(own_barque: Stack, tmp_path: Path) -> None:
    """The shim goes on writing; the next daemon sends what was written meanwhile, once or twice."""
    path = tmp_path / "s"
    count = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{path}")
    with receiver(path, socket.SOCK_STREAM) as there:
        own_barque.docker("run", "-d", "--network", "none", *options, "busybox", "sh", "-c", count)
        until(lambda: b"line 10\n" in b"".join(there.got))
        own_barque.kill("barqued")
        time.sleep(0.5)
        own_barque.start()
        until(lambda: b"line 59\n" in b"".join(there.got))
        numbers = [int(n) for n in re.findall(rb"line (\d+)\n", b"".join(there.got))]
    assert set(numbers) == set(range(60))


def test_lines_wait_for_a_receiver_that_went(barque: Stack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{path}")
    try:
        with receiver(path, socket.SOCK_STREAM) as there:
            script = "echo first; read x; echo second"
            barque.docker(
                *("run", "-d", "-i", "--name", "sender", *options, "busybox", "sh", "-c", script)
            )
            until(lambda: b"first" in b"".join(there.got))
        barque.docker("attach", "--sig-proxy=false", "sender", stdin=b"go\n", check=False)
        with receiver(path, socket.SOCK_STREAM) as again:
            until(lambda: b"second" in b"".join(again.got))
    finally:
        remove(barque)
