"""Containers' sandboxes on the default bridge: links, addresses, ports, isolation, removal.

The host is a network namespace, its neighbours are others; pyroute2 and iproute2 are the oracles.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute, NetNS

from barque import errors
from barque.daemon.networks.service import Networks
from barque.network.options import NetworkOptions
from tests.support.netns_host import (
    Neighbour,
    ask,
    attempt,
    isolated,
    run,
    server,
    temporary_root,
)
from tests.support.networks import BRIDGE, networks, pool_full

pytestmark = pytest.mark.root
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}


async def attach(made: Networks, name: str, **named: Any) -> Any:
    return await made.attach(name, name, f"host-{name}", **named)


def links() -> set[str]:
    return {link["ifname"] for link in json.loads(run("ip", "-j", "link"))}


def tables() -> str:
    return run("nft", "list", "tables")


def port_elements() -> list[Any]:
    found = []
    for line in tables().splitlines():
        _, family, table = line.split()
        if table.startswith("barque_") and "guard" not in table:
            for name in ("ports", "ports_any"):
                listed = json.loads(run("nft", "-j", "list", "map", family, table, name))
                found += [m["map"].get("elem", []) for m in listed["nftables"] if "map" in m]
    return [element for elements in found for element in elements]


async def until_links(expected: set[str]) -> None:
    for _ in range(500):
        if links() == expected:
            return
        await asyncio.sleep(0.02)
    assert links() == expected


async def until_gone(name: str) -> None:
    """A link goes when the kernel has taken its namespace down, in the background."""
    for _ in range(500):
        if name not in links():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} is still there")


def check_by_pyroute2(netns: str, host_side_name: str) -> None:
    with NetNS(netns) as inside, IPRoute() as outside:
        eth0 = inside.link("get", ifname="eth0")[0]
        assert eth0["state"] == "up"
        assert eth0.get_attr("IFLA_ADDRESS") == "02:42:ac:11:00:02"
        (address,) = inside.get_addr(index=eth0["index"])
        assert address.get_attr("IFA_ADDRESS") == "172.17.0.2"
        assert address["prefixlen"] == 16
        assert address.get_attr("IFA_BROADCAST") == "172.17.255.255"
        (route,) = inside.get_default_routes(family=2)
        assert route.get_attr("RTA_GATEWAY") == "172.17.0.1"
        bridge = outside.link("get", ifname=BRIDGE)[0]
        host_side = outside.link("get", ifname=host_side_name)[0]
        assert host_side.get_attr("IFLA_MASTER") == bridge["index"]
        assert host_side["state"] == "up"


@isolated
def test_a_sandbox_is_as_pyroute2_sees_it() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await pool_full(made)
            sandbox = await attach(made, "c1")
            name = f"veth{sandbox.settings['SandboxID'][:7]}"
            await asyncio.to_thread(check_by_pyroute2, sandbox.netns, name)
            endpoint = sandbox.settings["Networks"]["bridge"]
            assert endpoint["IPAddress"] == sandbox.settings["IPAddress"] == "172.17.0.2"
            assert sandbox.settings["SandboxKey"] == sandbox.netns
            assert sandbox.hosts.endswith("172.17.0.2\thost-c1\n")
            member = made.inspect("bridge")["Containers"]["c1"]
            assert member["IPv4Address"] == "172.17.0.2/16"
            await made.detach("c1")
            await made.detach("c1")
            await until_gone(name)
            await pool_full(made)
            assert not os.path.exists(sandbox.netns)
            assert made.inspect("bridge")["Containers"] == {}
        await until_links({"lo"})
        assert list((root / "netns").iterdir()) == []
        assert "barque_" not in tables().replace("barque_router_guard", "")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere(protocol: str) -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            key = f"80/{protocol}"
            web = await attach(made, "web", ports={key: [{"HostPort": "8080"}], "9/tcp": None})
            other = await attach(made, "other")
            assert web.settings["Ports"] == {
                key: [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
                "9/tcp": None,
            }
            stack.enter_context(server("web", 80, netns=web.netns, protocol=protocol))
            named: dict[str, Any] = {"protocol": protocol}
            # the neighbour's own address arrives; the host's loopback comes from the bridge
            assert ask(lan.ours, 8080, netns=lan.netns, **named) == f"web {lan.address}"
            assert ask("127.0.0.1", 8080, **named) == "web 172.17.0.1"
            assert ask(lan.ours, 8080, **named).startswith("web ")
            assert ask("172.17.0.1", 8080, **named).startswith("web ")
            # hairpin: itself and a sibling by the host's address, a sibling directly
            assert ask(lan.ours, 8080, netns=web.netns, **named) == "web 172.17.0.1"
            assert ask(lan.ours, 8080, netns=other.netns, **named) == "web 172.17.0.1"
            assert ask("172.17.0.2", 80, netns=other.netns, **named) == "web 172.17.0.3"
            await made.detach("web")
            assert port_elements() == []
            assert "failed" in ask(lan.ours, 8080, netns=lan.netns, timeout_s=1, **named)
            await made.detach("other")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_what_is_not_published_is_out_of_reach() -> None:
    """moby#45610: a neighbour that routes to us reaches neither loopback ports nor containers."""

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        run("sysctl", "-q", "net.ipv4.conf.ext0.route_localnet=1")  # another program's doing
        lan.run("ip", "route", "add", "172.17.0.0/16", "via", lan.ours)
        lan.run("sysctl", "-q", "net.ipv4.conf.up0.route_localnet=1")
        lan.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        lan.run("ip", "route", "add", "127.0.0.0/8", "via", lan.ours, "src", lan.address)
        async with networks(root) as made:
            ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
            web = await attach(made, "web", ports=ports)
            stack.enter_context(server("web", 80, netns=web.netns))
            assert ask("127.0.0.1", 8080) == "web 172.17.0.1"
            for address, port in (("127.0.0.1", 8080), ("172.17.0.2", 80), (lan.ours, 8080)):
                answer = ask(address, port, netns=lan.netns, timeout_s=1)
                assert "failed" in answer, (address, port, answer)
            await made.detach("web")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_a_container_does_not_reach_the_hosts_loopback() -> None:
    """CVE-2020-8558: route_localnet on the bridge must not open 127.0.0.1 to containers."""

    async def scenario(root: Path, stack: ExitStack) -> None:
        async with networks(root) as made:
            evil = await attach(made, "evil")
            stack.enter_context(server("secret", 7000, address="127.0.0.1"))
            assert ask("127.0.0.1", 7000) == "secret 127.0.0.1"
            for argv in (
                ("ip", "link", "set", "lo", "down"),
                ("sysctl", "-q", "net.ipv4.conf.eth0.route_localnet=1"),
                ("ip", "route", "flush", "table", "local", "127.0.0.0/8"),
                ("ip", "route", "add", "127.0.0.0/8", "via", "172.17.0.1", "src", "172.17.0.2"),
            ):
                attempt(*argv, netns=evil.netns)
            assert "failed" in ask("127.0.0.1", 7000, netns=evil.netns, timeout_s=1)
            await made.detach("evil")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_containers_go_out_by_the_hosts_address() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        stack.enter_context(server("lan", 90, netns=lan.netns))
        async with networks(root) as made:
            sandbox = await attach(made, "c1")
            assert ask(lan.address, 90, netns=sandbox.netns) == f"lan {lan.ours}"
            await made.detach("c1")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_forwarded_packets_with_a_published_port_pass_untouched() -> None:
    """CVE-2025-67499: only what is addressed to this host is ours to redirect."""

    async def scenario(root: Path, stack: ExitStack) -> None:
        one, two = Neighbour("ext1", "192.0.2"), Neighbour("ext2", "198.51.100")
        stack.callback(one.close)
        stack.callback(two.close)
        one.run("ip", "route", "add", "default", "via", one.ours)
        two.run("ip", "route", "add", "default", "via", two.ours)
        stack.enter_context(server("two", 8080, netns=two.netns))
        async with networks(root) as made:
            web = await attach(made, "web", ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns))
            assert ask(two.address, 8080, netns=one.netns) == f"two {one.address}"
            assert ask(two.address, 8080, netns=web.netns) == f"two {two.ours}"
            await made.detach("web")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_no_ipv6_and_no_router_advertisements() -> None:
    """CVE-2024-32473, CVE-2020-10749, CVE-2020-13401."""

    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            sandbox = await attach(made, "c1")
            assert "inet6" not in run("ip", "addr", "show", "eth0", netns=sandbox.netns)
            assert "inet6" not in run("ip", "addr", "show", BRIDGE)
            for key in ("all", "default", "eth0"):
                value = run("cat", f"/proc/sys/net/ipv6/conf/{key}/accept_ra", netns=sandbox.netns)
                assert value.strip() == "0"
            assert Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/accept_ra").read_text().strip() == "0"
            await made.detach("c1")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_networks_do_not_reach_each_other() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        stack.enter_context(server("lan", 90, netns=lan.netns))
        async with networks(root) as made:
            await made.create({"Name": "a"})
            await made.create({"Name": "inner", "Internal": True})
            quiet = {"com.docker.network.bridge.enable_icc": "false"}
            await made.create({"Name": "quiet", "Options": quiet})
            places = {}
            for name, network in (
                ("c", "bridge"), ("a1", "a"), ("a2", "a"), ("i1", "inner"), ("i2", "inner"),
                ("q1", "quiet"), ("q2", "quiet"),
            ):  # fmt: skip
                sandbox = await attach(made, name, mode=network)
                address = sandbox.settings["Networks"][network]["IPAddress"]
                places[name] = (sandbox.netns, address)
                stack.enter_context(server(name, 80, netns=sandbox.netns))

            def reach(source: str, target: str) -> bool:
                address = places[target][1] if target in places else lan.address
                port = 80 if target in places else 90
                answer = ask(address, port, netns=places[source][0], timeout_s=0.7)
                return "failed" not in answer

            assert reach("a1", "a2")
            assert reach("a1", "lan")
            assert reach("i1", "i2")
            assert reach("q1", "lan")
            for source, target in (("a1", "c"), ("c", "a1"), ("a1", "i1"), ("i1", "a1"),
                                   ("i1", "lan"), ("q1", "q2")):  # fmt: skip
                assert not reach(source, target), (source, target)
            stack.close()  # servers hold their namespaces
            for name in places:
                await made.detach(name)
            assert sorted(await made.prune({})) == ["a", "inner", "quiet"]
        await until_links({"lo"})

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_a_port_that_is_taken_fails_with_dockers_words_and_leaves_nothing() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        async with networks(root) as made:
            await pool_full(made)
            await attach(made, "first", ports=PORTS)
            await pool_full(made)
            before = links(), port_elements(), len(list((root / "netns").iterdir()))
            with pytest.raises(errors.BarqueError) as refused:
                await attach(made, "second", ports=PORTS)
            words = str(refused.value)
            assert words.startswith(
                "driver failed programming external connectivity on endpoint second ("
            )
            assert words.endswith("Bind for 0.0.0.0:8080 failed: port is already allocated")
            stack.enter_context(server("other", 9090))
            with pytest.raises(
                errors.BarqueError, match=r"listen tcp4 0\.0\.0\.0:9090: bind: address"
            ):
                await attach(made, "second", ports={"80/tcp": [{"HostPort": "9090"}]})
            assert made.settings("second")["Networks"] == {}
            await pool_full(made)
            for _ in range(500):
                after = links(), port_elements(), len(list((root / "netns").iterdir()))
                if tuple(map(len, before[:2])) == tuple(map(len, after[:2])):
                    break
                await asyncio.sleep(0.02)
            assert (len(after[0]), after[1:]) == (len(before[0]), before[1:])
            assert (await attach(made, "second")).settings["IPAddress"] == "172.17.0.3"
            await made.detach("first")
            await made.detach("second")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_a_subnet_that_the_host_uses_is_not_chosen() -> None:
    async def scenario(root: Path) -> None:
        run("ip", "link", "add", "ext0", "type", "veth", "peer", "name", "ext1")
        run("ip", "addr", "add", "172.17.3.1/24", "dev", "ext0")
        run("ip", "link", "set", "ext0", "up")
        run("ip", "route", "add", "172.18.0.0/16", "dev", "ext0")
        async with networks(root) as made:
            config = made.inspect("bridge")["IPAM"]["Config"]
            assert config == [{"Subnet": "172.19.0.0/16", "Gateway": "172.19.0.1"}]

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_options_of_the_default_bridge() -> None:
    options = NetworkOptions(
        bridge=BRIDGE, bip="10.9.0.5/24", fixed_cidr="10.9.0.128/25", default_gateway="10.9.0.9",
        mtu=1400, pool_size=1,
    )  # fmt: skip

    async def scenario(root: Path) -> None:
        async with networks(root, options) as made:
            sandbox = await attach(made, "c1")
            assert sandbox.settings["IPAddress"] == "10.9.0.128"
            assert sandbox.settings["Gateway"] == "10.9.0.9"
            assert "mtu 1400" in run("ip", "link", "show", "eth0", netns=sandbox.netns)
            assert "10.9.0.5/24" in run("ip", "-4", "addr", "show", BRIDGE)
            await made.detach("c1")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_host_none_and_shared_modes() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            host = await attach(made, "h", mode="host", ports=PORTS)
            assert host.netns is None
            assert list(host.settings["Networks"]) == ["host"]
            assert host.settings["Ports"] == {}
            none = await attach(made, "n", mode="none")
            shown = run("ip", "-o", "link", netns=none.netns)
            assert len(shown.splitlines()) == 1
            assert "LOOPBACK,UP" in shown
            shared = await attach(made, "s", mode="container:n")
            assert shared.netns == none.netns
            with pytest.raises(errors.Conflict, match="non running container"):
                await attach(made, "t", mode="container:gone")
            with pytest.raises(errors.NotFound, match="network nope not found"):
                await attach(made, "u", mode="nope")
            for name in ("s", "n", "h", "t"):
                await made.detach(name)
            assert not os.path.exists(str(none.netns))

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_networks_joined_and_left_while_running() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create({"Name": "joined", "IPAM": {"Config": [{"Subnet": "10.8.0.0/24"}]}})
            c1 = await attach(made, "c1", ports=PORTS)
            stack.enter_context(server("c1", 80, netns=c1.netns))
            await made.connect("joined", "c1", {"IPAMConfig": {"IPv4Address": "10.8.0.77"}})
            assert "10.8.0.77/24" in run("ip", "addr", "show", "eth1", netns=c1.netns)
            assert ask("10.8.0.77", 80) == "c1 10.8.0.1"
            with pytest.raises(errors.Forbidden, match="already exists in network joined"):
                await made.connect("joined", "c1", {})
            with pytest.raises(errors.Forbidden, match="has active endpoints"):
                await made.remove("joined")
            await made.disconnect("bridge", "c1")
            assert list(made.settings("c1")["Networks"]) == ["joined"]
            assert port_elements() == []
            assert "default via 10.8.0.1" in run("ip", "route", netns=c1.netns)
            assert "eth0" not in run("ip", "-o", "link", netns=c1.netns)
            await made.connect("bridge", "c1", {})
            assert ask("172.17.0.2", 80) == "c1 172.17.0.1"
            await made.detach("c1")
            await made.remove("joined")
            with pytest.raises(errors.NotFound):
                made.inspect("joined")
            with pytest.raises(errors.Forbidden, match="pre-defined network"):
                await made.remove("bridge")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_beside_a_docker_that_drops_what_it_forwards(program: str) -> None:
    def docker_starts() -> None:
        run(program, "-P", "FORWARD", "DROP")
        run(program, "-N", "DOCKER-USER")
        run(program, "-A", "FORWARD", "-j", "DOCKER-USER")

    async def scenario(root: Path, stack: ExitStack, *, late: bool) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        stack.enter_context(server("lan", 90, netns=lan.netns))
        if not late:
            docker_starts()
        async with networks(root) as made:
            await made.create({"Name": "more"})
            web = await attach(made, "web", ports=PORTS)
            more = await attach(made, "more", mode="more")
            with server("web", 80, netns=web.netns):
                if late:
                    docker_starts()
                    await asyncio.sleep(1)
                assert ask(lan.ours, 8080, netns=lan.netns) == f"web {lan.address}"
                assert ask(lan.address, 90, netns=web.netns) == f"lan {lan.ours}"
                assert ask(lan.address, 90, netns=more.netns) == f"lan {lan.ours}"
            assert made.warnings == []
            await made.detach("web")
            await made.detach("more")
            await made.remove("more")
        assert run(program, "-S", "DOCKER-USER").splitlines() == ["-N DOCKER-USER"]

    for late in (False, True) if program == "iptables-nft" else (False,):
        with temporary_root() as root, ExitStack() as stack:
            asyncio.run(scenario(root, stack, late=late))
        run(program, "-F")
        run(program, "-X", "DOCKER-USER")


@isolated
def test_a_firewall_that_drops_what_it_forwards_is_reported_and_left_alone() -> None:
    async def scenario(root: Path) -> None:
        run("iptables-nft", "-P", "FORWARD", "DROP")
        before = run("iptables-nft", "-S")
        async with networks(root) as made:
            (warning,) = made.warnings
            assert "FORWARD chain of iptables-nft drops by default" in warning
            assert BRIDGE in warning
            assert run("iptables-nft", "-S") == before

    with temporary_root() as root:
        asyncio.run(scenario(root))


STEADY = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.5)
client.connect((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    client.send(b"?")
    try:
        print(client.recv(64).decode().split()[0], flush=True)
    except OSError:
        print("failed", flush=True)
"""


@isolated
def test_a_udp_flow_does_not_stick_to_a_container_that_is_gone() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        argv = ["nsenter", f"--net={lan.netns}", sys.executable, "-S", "-c", STEADY]
        client = stack.enter_context(
            subprocess.Popen(
                [*argv, lan.ours, "5300"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )
        )  # fmt: skip
        stack.callback(client.kill)
        assert client.stdin is not None
        assert client.stdout is not None

        def exchange() -> str:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("\n")
            return client.stdout.readline().strip()

        ports = {"53/udp": [{"HostPort": "5300"}]}
        async with networks(root) as made:
            await attach(made, "keeps-the-first-address")
            first = await attach(made, "first", ports=ports)
            with server("first", 53, netns=first.netns, protocol="udp"):
                assert exchange() == "first"
            await made.detach("keeps-the-first-address")
            await made.detach("first")
            second = await attach(made, "second", ports=ports)
            assert second.settings["IPAddress"] != first.settings["IPAddress"]
            with server("second", 53, netns=second.netns, protocol="udp"):
                assert exchange() == "second"
            await made.detach("second")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_sctp_ports_are_redirected_like_others() -> None:
    """The kernel here may have no sctp sockets: what the rules say is what can be seen."""

    async def scenario(root: Path) -> None:
        ports = {"80/sctp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "80/tcp": None}
        async with networks(root) as made:
            web = await attach(made, "web", ports=ports)
            held = [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
            assert web.settings["Ports"] == {"80/sctp": held, "80/tcp": None}
            (element,) = port_elements()
            assert element == [
                {"concat": ["127.0.0.1", "sctp", 8080]},
                {"concat": ["172.17.0.2", 80]},
            ]
            with pytest.raises(errors.BarqueError, match="port is already allocated"):
                await attach(made, "other", ports=ports)
            await made.detach("web")
            assert not port_elements()

    with temporary_root() as root:
        asyncio.run(scenario(root))
