"""Sandboxes, ports and networks beside the same done by the programs `ip` and `nft`.

All of it on a machine of its own: a child process in new network and mount namespaces.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from barque.daemon.networks.service import Networks
from bench.measure import Figure
from tests.support.netns_host import isolated, temporary_root
from tests.support.networks import networks, pool_full

ROUNDS = 40
MANY = 1000
FIRST_PORT = 20000


def figures() -> Iterator[Figure]:
    read, write = os.pipe()
    isolated(_measure)(write)
    os.close(write)
    with os.fdopen(read) as stream:
        found = json.loads(stream.read())
    yield Figure("attach: warm namespace, address, no port", found["attach"], found["by ip"], "ms")
    yield Figure("attach with a port", found["port"], found["by ip and nft"], "ms")
    yield Figure("... with 1,000 there, over none", found["port of many"], found["port"], "ms", 1.5)
    yield Figure(
        "... with 100 sandboxes there, over none", found["crowd"], found["port"], "ms", 1.5
    )
    yield Figure("attach when the pool is empty, over warm", found["cold"], found["attach"], "ms")
    yield Figure("detach", found["detach"], found["away by ip"], "ms")
    by_programs = found["bridge by ip and nft"]
    yield Figure("network create and rm, over ip and nft", found["network"], by_programs, "ms")


def _measure(write: int) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with temporary_root() as root:
        found = asyncio.run(_all(root))
    os.write(write, json.dumps(found).encode())


async def _all(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    async with networks(root) as made:
        found["attach"], found["detach"] = await _cycles(made, port=False)
        found["port"], _ = await _cycles(made, port=True)
        found["cold"] = await _cold(made)
        many = {f"{n + 1}/udp": [{"HostPort": str(FIRST_PORT + n)}] for n in range(MANY)}
        await made.attach("many", "many", "many", ports=many)
        found["port of many"], _ = await _cycles(made, port=True)
        await made.detach("many")
        for number in range(100):
            await made.attach(f"s{number}", f"s{number}", "s")
        found["crowd"], _ = await _cycles(made, port=True)
        for number in range(100):
            await made.detach(f"s{number}")
        found["network"] = await _median(lambda: _network(made))
    found |= _by_programs()
    return found


async def _cycles(made: Networks, *, port: bool) -> tuple[float, float]:
    """Medians of attach and detach, in milliseconds, the pool full before each."""
    came, went = [], []
    ports = {"80/tcp": [{"HostPort": "8080"}]} if port else {}
    for _ in range(ROUNDS):
        await pool_full(made)
        await asyncio.sleep(0.005)
        start = time.perf_counter()
        await made.attach("c", "c", "c", ports=ports)
        middle = time.perf_counter()
        await made.detach("c")
        came.append(middle - start)
        went.append(time.perf_counter() - middle)
    return statistics.median(came) * 1000, statistics.median(went) * 1000


async def _cold(made: Networks) -> float:
    """A burst that empties the pool: the median of what comes after it."""
    await pool_full(made)
    times = []
    for number in range(30):
        start = time.perf_counter()
        await made.attach(f"b{number}", f"b{number}", "b")
        times.append(time.perf_counter() - start)
    for number in range(30):
        await made.detach(f"b{number}")
    return statistics.median(times[made.pool.size :]) * 1000


async def _median(work: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


async def _network(made: Networks) -> None:
    await made.create({"Name": "bench"})
    await made.remove("bench")


def _timed(*scripts: str) -> list[float]:
    """Medians of these shell scripts, run one after the other, in milliseconds."""
    times: list[list[float]] = [[] for _ in scripts]
    for _ in range(ROUNDS):
        for place, script in zip(times, scripts, strict=True):
            start = time.perf_counter()
            subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
            place.append(time.perf_counter() - start)
    return [statistics.median(place) * 1000 for place in times]


TABLE = """
nft add table inet bench
nft add map inet bench ports '{ type inet_proto . inet_service : ipv4_addr . inet_service; }'
ip link add benchbr type bridge; ip addr add 10.99.0.1/24 dev benchbr; ip link set benchbr up
mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns
"""
COME = """
ip netns add bench
ip link add benchv type veth peer name eth0 netns bench
ip link set benchv master benchbr up
ip -n bench -batch - <<END
link set lo up
addr add 10.99.0.2/24 dev eth0
link set eth0 up
route add default via 10.99.0.1
END
"""
PORT = "nft add element inet bench ports '{ tcp . 8080 : 10.99.0.2 . 80 }'"
GO = "ip netns del bench; while ip link show benchv >/dev/null 2>&1; do sleep 0.01; done"
NETWORK = """
ip link add benchb2 type bridge; ip addr add 10.98.0.1/24 dev benchb2; ip link set benchb2 up
nft add chain inet bench c2; nft add rule inet bench c2 accept
nft delete chain inet bench c2; ip link del benchb2
"""


def _by_programs() -> dict[str, float]:
    subprocess.run(["sh", "-ec", TABLE], check=True)
    come, port, _unport, go = _timed(COME, PORT, "nft flush map inet bench ports", GO)
    (bridge,) = _timed(NETWORK)
    return {
        "by ip": come,
        "by ip and nft": come + port,
        "away by ip": go,
        "bridge by ip and nft": bridge,
    }
