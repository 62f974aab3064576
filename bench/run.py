"""The road of `barque run`, beside Debian's dockerd with the real docker CLI."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

from bench.measure import Figure, interleaved, processes_naming, pss_kib
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer

ROUNDS = 15
COLD_ROUNDS = 5
CROWD = 100
BURST = 32
CLIENTS = 8
MEMORY_CONTAINERS = 20

Call = Callable[..., object]


def _ours(barque: Stack) -> Call:
    return lambda *arguments: barque.cli(*arguments)


def _peers(peer: Peer) -> Call:
    return lambda *arguments: peer.docker(*arguments)


@contextmanager
def _containers(call: Call, count: int, name: str) -> Iterator[None]:
    """`count` sleeping containers for the length of the block."""
    names = [f"{name}{number}" for number in range(count)]
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(
                pool.map(lambda n: call("run", "-d", "--name", n, "busybox", "sleep", "600"), names)
            )
        yield
    finally:
        call("rm", "-f", *names)


def _pair(name: str, barque: Stack, peer: Peer, arguments: list[str], bound: float) -> Figure:
    medians = interleaved(
        {
            "ours": lambda: barque.cli(*arguments),
            "peer": lambda: peer.docker(*arguments),
        },
        ROUNDS,
    )
    return Figure(name, medians["ours"], medians["peer"], "ms", bound)


def _exec(barque: Stack, peer: Peer) -> Figure:
    with _containers(_ours(barque), 1, "e"), _containers(_peers(peer), 1, "e"):
        return _pair("exec true", barque, peer, ["exec", "e0", "true"], 0.5)


def _crowd(barque: Stack) -> Figure:
    """Our own start with 100 others present, over our own without them."""
    run = {"run": lambda: barque.cli("run", "--rm", "busybox", "true")}
    before = interleaved(run, ROUNDS)["run"]
    with _containers(_ours(barque), CROWD, "c"):
        among = interleaved(run, ROUNDS)["run"]
    after = interleaved(run, ROUNDS)["run"]
    return Figure(f"run --rm among {CROWD} others", among, (before + after) / 2, "ms", 1.1)


def _burst_rate(call: Call) -> float:
    """Containers a second when `CLIENTS` clients start `BURST` at once."""
    names = [f"b{number}" for number in range(BURST)]
    before = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda n: call("run", "-d", "--name", n, "busybox", "sleep", "600"), names))
    took = time.perf_counter() - before
    call("rm", "-f", *names)
    return BURST / took


def _memory(barque: Stack, peer: Peer) -> Figure:
    """MB of PSS that a running container adds to the engine's own processes."""

    def added(call: Call, word: str) -> float:
        before = pss_kib(processes_naming(word))
        with _containers(call, MEMORY_CONTAINERS, "m"):
            return (pss_kib(processes_naming(word)) - before) / MEMORY_CONTAINERS / 1024

    return Figure(
        "PSS a running container adds",
        added(_ours(barque), str(barque.root)),
        added(_peers(peer), str(peer.root)),
        "MB",
    )


def _cold_start() -> Iterator[Figure]:
    """From the daemon's start to its first answer, nothing of it running before."""
    answers: dict[str, list[float]] = {"ours": [], "peer": []}
    lists: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(COLD_ROUNDS):
        with docker_peer(image=False, run_in_memory=True) as peer:
            answers["peer"].append(peer.answer_s * 1000)
            lists["peer"].append(peer.ready_s * 1000)
        with stack(busybox=False, run_in_memory=True) as barque:
            answers["ours"].append(barque.answer_s * 1000)
            lists["ours"].append(barque.ready_s * 1000)
    for name, times, bound in (
        ("cold start to first answer (_ping)", answers, 0.6),
        ("cold start to first list of containers", lists, None),
    ):
        yield Figure(name, median(times["ours"]), median(times["peer"]), "ms", bound)


def figures() -> Iterator[Figure]:
    yield from _cold_start()
    with stack(run_in_memory=True) as barque, docker_peer(run_in_memory=True) as peer:
        yield _pair("run --rm busybox true", barque, peer, ["run", "--rm", "busybox", "true"], 0.25)
        yield _pair(
            "run --rm --network none busybox true",
            barque,
            peer,
            ["run", "--rm", "--network", "none", "busybox", "true"],
            0.25,
        )
        yield _exec(barque, peer)
        yield _crowd(barque)
        yield _memory(barque, peer)
        ours, peers = _burst_rate(_ours(barque)), _burst_rate(_peers(peer))
        yield Figure(f"{BURST} starts by {CLIENTS} clients", ours, peers, "1/s", 3.0, at_least=True)
        true = {
            "ours": lambda: barque.cli("--version"),
            "peer": lambda: peer.docker("--version"),
        }
        medians = interleaved(true, ROUNDS)
        yield Figure("the command alone (--version)", medians["ours"], medians["peer"], "ms")
