"""Networks beside Debian's dockerd, through the API of both: the ratios that users notice."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import Figure, interleaved
from tests.support.barque import stack
from tests.support.docker_peer import docker_peer

ROUNDS = 15
LOOKUPS = 30_000
LOOKUP_ROUNDS = 5
IPERF_S = 3
IPERF_ROUNDS = 3

MANY_LOOKUPS = """
import socket, sys, time
name, count = sys.argv[1].encode(), int(sys.argv[2])
question = bytes((len(name),)) + name + b"\\0\\0\\1\\0\\1"
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
opened.settimeout(5)
opened.connect(("127.0.0.11", 53))
window = 32
query = b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question
packets = [n.to_bytes(2, "big") + query for n in range(window)]
start = time.perf_counter()
for packet in packets:
    opened.send(packet)
for number in range(count - window):
    answer = opened.recv(512)
    assert answer[7] == 1, answer
    opened.send(packets[number % window])
for _ in range(window):
    opened.recv(512)
print(count / (time.perf_counter() - start))
"""


class Engine:
    """One side: its API, and containers of the host's files (python, iperf3)."""

    def __init__(self, docker: Any, socket_path: Path) -> None:
        self.docker = docker
        self._path = str(socket_path)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("d", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._path)
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/v1.41{path}", text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status < 400, data
        return json.loads(data) if data else None

    def start(self, name: str, *arguments: str) -> None:
        self.docker("run", "-d", "--name", name, *arguments, "busybox", "sleep", "3600")

    def inside(self, name: str, *argv: str) -> str:
        """Run a program of the host in the network of container `name`."""
        pid = self.api("GET", f"/containers/{name}/json")["State"]["Pid"]
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{pid}/ns/net", *argv],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def network(self) -> None:
        self.api("POST", "/networks/create", {"Name": "bench"})
        self.api("DELETE", "/networks/bench")

    def join_and_leave(self) -> None:
        body = {"Container": "member"}
        self.api("POST", "/networks/second/connect", body)
        self.api("POST", "/networks/second/disconnect", body)

    def lookups(self) -> float:
        return float(self.inside("member", sys.executable, "-c", MANY_LOOKUPS, "b2", str(LOOKUPS)))

    def throughput(self, target: str, port: int) -> float:
        """Gbit/s from container `member` to an iperf3 server."""
        argv = ("iperf3", "-J", "-c", target, "-p", str(port), "-t", str(IPERF_S))
        answer = json.loads(self.inside("member", *argv))
        return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e9

    def address(self, name: str, network: str) -> str:
        networks = self.api("GET", f"/containers/{name}/json")["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])


def figures() -> Iterator[Figure]:
    with stack() as barque, docker_peer() as peer, ExitStack() as undo:
        both = {
            "ours": Engine(barque.docker, barque.socket),
            "theirs": Engine(peer.docker, peer.socket),
        }
        for engine in both.values():
            for name in ("first", "second"):
                engine.api("POST", "/networks/create", {"Name": name})
            for name in ("member", "b2"):
                engine.start(name, "--network", "first", "-p", "5201")
            undo.callback(engine.docker, "rm", "-f", "member", "b2", check=False)
        yield _pair("network create and rm", {k: e.network for k, e in both.items()}, 0.3)
        yield _pair("connect and disconnect", {k: e.join_and_leave for k, e in both.items()}, 0.3)
        yield _lookups(both)
        yield from _throughput(both)


def _pair(name: str, calls: Any, bound: float) -> Figure:
    found = interleaved(calls, ROUNDS)
    return Figure(name, found["ours"], found["theirs"], "ms", bound)


def _lookups(both: dict[str, Engine]) -> Figure:
    rates: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(LOOKUP_ROUNDS):
        for name, engine in both.items():
            rates[name].append(engine.lookups())
    ours, theirs = (statistics.median(rates[name]) for name in ("ours", "theirs"))
    return Figure("names looked up", ours, theirs, "1/s", 2.0, at_least=True)


def _throughput(both: dict[str, Engine]) -> Iterator[Figure]:
    direct: dict[str, list[float]] = {name: [] for name in both}
    public: dict[str, list[float]] = {name: [] for name in both}
    with ExitStack() as undo:
        targets = {}
        for name, engine in both.items():
            pid = engine.api("GET", "/containers/b2/json")["State"]["Pid"]
            argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "iperf3", "-s"]
            served = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
            undo.callback(served.wait)
            undo.callback(served.kill)
            ports = engine.api("GET", "/containers/b2/json")["NetworkSettings"]["Ports"]
            gateway = engine.api("GET", "/networks/first")["IPAM"]["Config"][0]["Gateway"]
            targets[name] = (
                engine.address("b2", "first"),
                gateway,
                int(ports["5201/tcp"][0]["HostPort"]),
            )
        time.sleep(0.5)
        for _ in range(IPERF_ROUNDS):
            for name, engine in both.items():
                address, gateway, port = targets[name]
                direct[name].append(engine.throughput(address, 5201))
                public[name].append(engine.throughput(gateway, port))
    for title, found in (
        ("container to container", direct),
        ("through a published port", public),
    ):
        ours, theirs = (statistics.median(found[name]) for name in ("ours", "theirs"))
        yield Figure(title, ours, theirs, "Gbit/s", 0.95, at_least=True)
