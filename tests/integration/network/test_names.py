"""Names of containers on user-defined networks, asked for inside their namespaces."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.networks.service import Networks
from barque.network.options import NetworkOptions
from tests.support.netns_host import Neighbour, isolated, run, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root

ASK = """
import dnslib, sys
name, kind, way = sys.argv[1:4]
question = dnslib.DNSRecord.question(name, kind)
answer = dnslib.DNSRecord.parse(question.send("127.0.0.11", 53, tcp=way == "tcp", timeout=10))
print(dnslib.RCODE[answer.header.rcode], *(str(record.rdata) for record in answer.rr))
"""

MANY = """
import socket, struct, sys
name, count, parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
question = bytes((len(name),)) + name.encode() + b"\\0\\0\\1\\0\\1"
sockets = []
for _ in range(parallel):
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(20)
    opened.connect(("127.0.0.11", 53))
    sockets.append(opened)
answered = 0
for first in range(0, count, parallel):
    for number, opened in enumerate(sockets):
        opened.send(struct.pack(">HHHHHH", first + number & 0xFFFF, 256, 1, 0, 0, 0) + question)
    for number, opened in enumerate(sockets):
        answer = opened.recv(512)
        identity, flags, _, answers = struct.unpack_from(">HHHH", answer)
        answered += identity == first + number & 0xFFFF and not flags & 15 and answers == 1
print(answered)
"""

UPSTREAM = """
import dnslib, dnslib.server, sys, time
class Known:
    def resolve(self, request, handler):
        reply = request.reply()
        if str(request.q.qname) == "big.example.":
            for number in range(200):
                reply.add_answer(*dnslib.RR.fromZone(f"big.example. 60 A 203.0.113.{number}"))
        else:
            peer = handler.client_address[0]
            reply.add_answer(*dnslib.RR.fromZone(f"{request.q.qname} 60 TXT asked-by-{peer}"))
            reply.add_answer(*dnslib.RR.fromZone(f"{request.q.qname} 60 A 203.0.113.7"))
        return reply
log = dnslib.server.DNSLogger("-request,-reply,-recv,-send,-truncated,-error,-data,-recv")
for tcp in (False, True):
    dnslib.server.DNSServer(Known(), "0.0.0.0", 53, tcp=tcp, logger=log).start_thread()
print("ready", flush=True)
time.sleep(600)
"""


def script(text: str, *arguments: str, netns: str | None) -> str:
    return run(sys.executable, "-c", text, *arguments, netns=netns).strip()


def lookup(sandbox: Any, name: str, kind: str = "A", way: str = "udp") -> str:
    return script(ASK, name, kind, way, netns=sandbox.netns)


@contextmanager
def upstream(netns: str) -> Iterator[None]:
    argv = ["nsenter", f"--net={netns}", sys.executable, "-c", UPSTREAM]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resolver_pid(root: Path) -> int | None:
    """The resolver's process of this root, None when there is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"barque-dns" in line and str(root).encode() in line:
            return int(pid)
    return None


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def attach(made: Networks, name: str, network: str, **settings: Any) -> Any:
    endpoints = {network: settings}
    return await made.attach(name[0] * 64, name, f"host-{name}", network, endpoints)


async def ask(sandbox: Any, name: str, kind: str = "A", way: str = "udp") -> str:
    return await asyncio.to_thread(lookup, sandbox, name, kind, way)


@isolated
def test_containers_find_each_other() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            web = await attach(made, "web", "n1", Aliases=["www"])
            db = await attach(made, "db", "n1", Aliases=["www"], Links=["web:front"])
            assert "nameserver 127.0.0.11\n" in web.resolv_conf
            assert "ndots:0" in web.resolv_conf
            assert await ask(web, "db") == "NOERROR 172.18.0.3"
            assert await ask(web, "DB.n1", way="tcp") == "NOERROR 172.18.0.3"
            assert await ask(web, "dddddddddddd") == "NOERROR 172.18.0.3"
            assert await ask(web, "host-db") == "NOERROR 172.18.0.3"
            assert await ask(db, "front") == "NOERROR 172.18.0.2"
            both = {await ask(web, "www") for _ in range(4)}
            assert both == {"NOERROR 172.18.0.2 172.18.0.3", "NOERROR 172.18.0.3 172.18.0.2"}
            assert await ask(web, "3.0.18.172.in-addr.arpa", "PTR") == "NOERROR db.n1."
            names = made.settings("d" * 64)["Networks"]["n1"]["DNSNames"]
            assert names == ["db", "www", "d" * 12, "host-db"]
            await made.rename("d" * 64, "other")
            assert await ask(web, "other") == "NOERROR 172.18.0.3"
            await made.detach("d" * 64)
            assert await ask(web, "www") == "NOERROR 172.18.0.2"
            await made.detach("w" * 64)
        wait_until(lambda: resolver_pid(root) is None)
        assert (root / "dns.log").read_text() == ""

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_program_of_the_container_may_have_port_53() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            web = await attach(made, "web", "n1")
            with upstream(web.netns):
                assert await ask(web, "web") == "NOERROR 172.18.0.2"
            await made.detach("w" * 64)

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_names_of_networks_joined_and_left_while_running() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            await made.create({"Name": "n2"})
            web = await attach(made, "web", "n1")
            await attach(made, "db", "n2")
            await made.connect("n2", "w" * 64, {"Aliases": ["late"]})
            assert await ask(web, "db") == "NOERROR 172.19.0.2"
            assert await ask(web, "late") == "NOERROR 172.19.0.3"
            await made.disconnect("n2", "w" * 64)
            assert (await ask(web, "late")).startswith("SERVFAIL")
            await made.detach("w" * 64)
            await made.detach("d" * 64)

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_other_names_are_asked_for_outside() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        stack.enter_context(upstream(lan.netns))
        # the first server is nobody: the second one answers
        options = NetworkOptions(bridge=BRIDGE, dns=("192.0.2.99", lan.address))
        async with networks(root, options) as made:
            await made.create({"Name": "n1"})
            await made.create({"Name": "closed", "Internal": True})
            web = await attach(made, "web", "n1")
            shut = await attach(made, "shut", "closed")
            assert await ask(web, "some.example") == f'NOERROR "asked-by-{lan.ours}" 203.0.113.7'
            assert len((await ask(web, "big.example", way="tcp")).split()) == 201
            # CVE-2024-29018: nothing of an internal network leaves by its name server
            assert await ask(shut, "some.example") == "SERVFAIL"
            assert await ask(shut, "shut") == "NOERROR 172.19.0.2"
            await made.detach("w" * 64)
            await made.detach("s" * 64)

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_ten_thousand_lookups_under_load_are_all_answered() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            web = await attach(made, "web", "n1")
            await attach(made, "db", "n1")
            asking = [
                asyncio.to_thread(script, MANY, "db", "5000", "50", netns=web.netns)
                for _ in range(2)
            ]
            assert await asyncio.gather(*asking) == ["5000", "5000"]
            await made.detach("w" * 64)
            await made.detach("d" * 64)

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_names_are_answered_while_the_daemon_is_away_and_settled_after() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            web = await attach(made, "web", "n1")
            await attach(made, "db", "n1")
        first = resolver_pid(root)
        assert first is not None
        assert lookup(web, "db") == "NOERROR 172.18.0.3"
        async with networks(root, live=["w" * 64]) as made:  # db ended meanwhile
            assert resolver_pid(root) == first
            assert (await ask(web, "db")).startswith("SERVFAIL")
            assert await ask(web, "web") == "NOERROR 172.18.0.2"
            await made.detach("w" * 64)
        wait_until(lambda: resolver_pid(root) is None)

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_resolver_that_was_killed_is_started_again() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create({"Name": "n1"})
            web = await attach(made, "web", "n1")
            first = resolver_pid(root)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            db = await attach(made, "db", "n1")
            assert await ask(db, "web") == "NOERROR 172.18.0.2"
            await asyncio.to_thread(wait_until, lambda: "3\n" in _answer(web))
            await made.detach("w" * 64)
            await made.detach("d" * 64)
        # and while the daemon is away: by the next one
        async with networks(root) as made:
            web = await attach(made, "web", "n1")
        last = resolver_pid(root)
        assert last is not None
        os.kill(last, signal.SIGKILL)
        async with networks(root, live=["w" * 64]) as made:
            assert await ask(web, "web") == "NOERROR 172.18.0.2"
            await made.detach("w" * 64)
        wait_until(lambda: resolver_pid(root) is None)

    with temporary_root() as root:
        asyncio.run(scenario(root))


def _answer(sandbox: Any) -> str:
    try:
        return lookup(sandbox, "db") + "\n"
    except AssertionError:
        return ""
