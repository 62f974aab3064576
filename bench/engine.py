"""The Engine API beside Debian's dockerd: lists, cycles, copies, restarts, memory."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.measure import Figure, interleaved, processes_naming, pss_kib
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer, wait_for

LISTED = 500
LIST_ROUNDS = 9
REQUESTS = 200
CLIENTS = 16
CYCLES = 64
RUNNING = 100
COPY_ROUNDS = 3
BIG_BYTES = 1 << 30
FILES = 20_000
Daemon = Stack | Peer


class Client:
    """A connection that is kept: what a program has, and not a command."""

    def __init__(self, path: Path) -> None:
        self._connection = http.client.HTTPConnection("docker", timeout=120)
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(path))

    def ask(self, method: str, target: str, document: object = None) -> bytes:
        body = b"" if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, f"/v1.41{target}", body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status < 400, (method, target, answer.status, data)
        return data

    def close(self) -> None:
        self._connection.close()


@contextmanager
def client(daemon: Daemon) -> Iterator[Client]:
    made = Client(daemon.socket)
    try:
        yield made
    finally:
        made.close()


def many(daemon: Daemon, count: int, work: Callable[[Client, int], object]) -> None:
    """`work` for each number, by `CLIENTS` connections at once."""

    def some(first: int) -> None:
        with client(daemon) as connection:
            for number in range(first, count, CLIENTS):
                work(connection, number)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(some, range(CLIENTS)))


def create(connection: Client, name: str, command: list[str]) -> str:
    document = {"Image": "busybox", "Cmd": command, "StopSignal": "SIGKILL"}
    made: str = json.loads(connection.ask("POST", f"/containers/create?name={name}", document))[
        "Id"
    ]
    return made


def _cycle(connection: Client, number: int) -> None:
    id = create(connection, f"cycle{number}", ["sleep", "600"])
    connection.ask("POST", f"/containers/{id}/start")
    connection.ask("POST", f"/containers/{id}/stop?t=5")
    connection.ask("DELETE", f"/containers/{id}")


def cycle_rate(daemon: Daemon) -> float:
    many(daemon, CLIENTS, _cycle)
    before = time.perf_counter()
    many(daemon, CYCLES, _cycle)
    return CYCLES / (time.perf_counter() - before)


def list_rate(daemon: Daemon) -> float:
    with client(daemon) as connection:
        connection.ask("GET", "/containers/json?all=1")
        before = time.perf_counter()
        for _ in range(REQUESTS):
            connection.ask("GET", "/containers/json?all=1")
        return REQUESTS / (time.perf_counter() - before)


def _lists(barque: Stack, peer: Peer) -> Iterator[Figure]:
    for daemon in (barque, peer):
        many(daemon, LISTED, lambda c, n: create(c, f"listed{n}", ["true"]))
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(3):
        rates["ours"].append(list_rate(barque))
        rates["peer"].append(list_rate(peer))
    ours, peers = median(rates["ours"]), median(rates["peer"])
    yield Figure(f"/containers/json of {LISTED}", ours, peers, "1/s", 1.0, at_least=True)
    calls = {"ours": lambda: barque.cli("ps", "-a"), "peer": lambda: peer.docker("ps", "-a")}
    found = interleaved(calls, LIST_ROUNDS)
    yield Figure(f"ps -a with {LISTED} containers", found["ours"], found["peer"], "ms", 1.0)
    for daemon in (barque, peer):
        many(daemon, LISTED, lambda c, n: c.ask("DELETE", f"/containers/listed{n}"))


def _cp(barque: Stack, peer: Peer) -> Iterator[Figure]:
    """A large file in the container's own layers; many files in a tmpfs that is mounted in it.

    What ext4 takes for a new file varies by ten: it passes over each inode that was freed in the
    last half minute, one by one. That is no matter of who copies.
    """
    script = (
        f"dd if=/dev/zero of=/big bs=1048576 count={BIG_BYTES >> 20} 2>/dev/null; mkdir /t/many; "
        f"cd /t/many; for i in $(seq {FILES // 100}); do mkdir $i; for j in $(seq 100); do "
        "echo $i.$j >$i/$j; done; done; exec sleep 1000"
    )
    scratch = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    memory = Path(tempfile.mkdtemp(prefix="bq-", dir="/dev/shm"))
    daemons: dict[str, Daemon] = {"ours": barque, "peer": peer}
    try:
        for name, daemon in daemons.items():
            (memory / name).mkdir()
            mount = ("-v", f"{memory / name}:/t")
            daemon.docker("run", "-d", "--name", "cp", *mount, "busybox", "sh", "-c", script)
        for daemon in daemons.values():
            while not _cmdline(daemon).startswith(b"sleep"):
                time.sleep(0.2)
        yield from _copies(barque, peer, scratch, f"{BIG_BYTES >> 20} MB", "/big")
        yield from _copies(barque, peer, memory, f"{FILES} files", "/t/many")
    finally:
        for daemon in daemons.values():
            daemon.docker("rm", "-f", "cp")
        shutil.rmtree(scratch)
        shutil.rmtree(memory)


def _cmdline(daemon: Daemon) -> bytes:
    return daemon.docker("exec", "cp", "cat", "/proc/1/cmdline").stdout


def _copies(barque: Stack, peer: Peer, scratch: Path, what: str, path: str) -> Iterator[Figure]:
    calls = {"ours": barque.cli, "peer": peer.docker}
    out: dict[str, list[float]] = {"ours": [], "peer": []}
    into: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(COPY_ROUNDS):
        for name, call in calls.items():
            target = scratch / f"{name}.out"
            os.sync()  # so that nobody pays for what another wrote
            before = time.perf_counter()
            call("cp", f"cp:{path}", str(target), timeout_s=300)
            middle = time.perf_counter()
            os.sync()
            start = time.perf_counter()
            call("cp", str(target), f"cp:{path}.in", timeout_s=300)
            after = time.perf_counter()
            out[name].append((middle - before) * 1000)
            into[name].append((after - start) * 1000)
            call("exec", "cp", "rm", "-rf", f"{path}.in")
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    for word, times in (("from", out), ("into", into)):
        ours, peers = median(times["ours"]), median(times["peer"])
        yield Figure(f"cp of {what} {word} a container", ours, peers, "ms", 0.7)


def _memory(barque: Stack, peer: Peer) -> Figure:
    ours = pss_kib(processes_naming(str(barque.root))) / 1024
    peers = pss_kib(processes_naming(f"{peer.root}/")) / 1024
    return Figure("PSS of the idle daemons", ours, peers, "MB", 0.8)


def _restart_peer(peer: Peer) -> tuple[float, float]:
    """ms to the first answer and to the first list, after a stop that leaves containers alone."""
    argv = Path(f"/proc/{peer.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    os.kill(peer.pid, signal.SIGTERM)
    while Path(f"/proc/{peer.pid}/exe").exists():
        time.sleep(0.01)
    before = time.perf_counter()
    with open(peer.root / "log", "ab") as log:
        daemon = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{peer.netns}", *argv], stdout=log, stderr=log
        )
    try:
        wait_for(peer.socket, "/_ping", daemon, peer.root / "log")
        answered = time.perf_counter()
        wait_for(peer.socket, "/containers/json", daemon, peer.root / "log")
        listed = time.perf_counter()
        ids = peer.docker("ps", "-aq").stdout.decode().split()
        assert len(ids) == RUNNING
        peer.docker("rm", "-f", *ids, timeout_s=300)
    finally:
        daemon.terminate()
        daemon.wait(60)
    return (answered - before) * 1000, (listed - before) * 1000


def _restart() -> Iterator[Figure]:
    def run(connection: Client, number: int) -> None:
        id = create(connection, f"running{number}", ["sleep", "600"])
        connection.ask("POST", f"/containers/{id}/start")

    with docker_peer(["--live-restore"], own_mounts=False, run_in_memory=True) as peer:
        many(peer, RUNNING, run)
        peers = _restart_peer(peer)
    with stack(run_in_memory=True) as barque:
        many(barque, RUNNING, run)
        barque.restart()
        ours = barque.answer_s * 1000, barque.ready_s * 1000
        running = barque.docker("ps", "-q").stdout.split()
        assert len(running) == RUNNING
    what = f"restart among {RUNNING} running"
    yield Figure(f"{what}, to first answer", ours[0], peers[0], "ms", 0.5)
    yield Figure(f"{what}, to first list", ours[1], peers[1], "ms", 0.5)


def figures() -> Iterator[Figure]:
    with stack(run_in_memory=True) as barque, docker_peer(run_in_memory=True) as peer:
        yield _memory(barque, peer)
        yield from _lists(barque, peer)
        rates = cycle_rate(barque), cycle_rate(peer)
        name = f"create-start-stop-remove, {CLIENTS} clients"
        yield Figure(name, *rates, "1/s", 4.0, at_least=True)
        yield from _cp(barque, peer)
    yield from _restart()
