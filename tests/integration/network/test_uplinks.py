"""macvlan, ipvlan and overlay networks: other machines on a wire are namespaces of the test's."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from barque.network.options import NetworkOptions
from tests.support.netns_host import Neighbour, ask, attempt, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
SUBNET = {"Config": [{"Subnet": "192.0.2.0/24", "IPRange": "192.0.2.128/25"}]}


def has_kind(kind: str) -> bool:
    """Whether this kernel has such links: tried, in the test's own namespace."""
    found = attempt("ip", "link", "add", "link", "lo", "name", "bqtry", "type", kind)
    attempt("ip", "link", "del", "bqtry")
    return "Unknown device type" not in found.stderr


def inside(netns: str | None, *argv: str) -> str:
    assert netns is not None
    return run(*argv, netns=netns)


def kinds(netns: str | None) -> dict[str, str]:
    found = json.loads(inside(netns, "ip", "-j", "-d", "link"))
    return {link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in found}


def links() -> set[str]:
    """All but the pairs of sandboxes, of which some are always in stock."""
    found = {link["ifname"] for link in json.loads(run("ip", "-j", "link"))}
    return {name for name in found if not name.startswith("veth")}


async def macvlan(made: Networks, name: str = "lan", **options: str) -> None:
    body = {"Name": name, "Driver": "macvlan", "IPAM": SUBNET, "Options": options}
    await made.create(body)


@isolated
def test_a_container_is_a_machine_on_the_parents_wire() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await macvlan(made, parent="lan0")
            first = await made.attach("c1", "c1", "c1", "lan")
            second = await made.attach("c2", "c2", "c2", "lan")
            assert kinds(first.netns)["eth0"] == "macvlan"
            assert json.loads(inside(first.netns, "ip", "-j", "route", "show", "default"))
            stack.enter_context(server("c1", 80, netns=first.netns))
            stack.enter_context(server("lan", 80, netns=lan.netns))
            ours = made.settings("c2")["Networks"]["lan"]["IPAddress"]
            theirs = made.settings("c1")["Networks"]["lan"]["IPAddress"]
            assert theirs.startswith("192.0.2.1")
            ask_in = asyncio.to_thread
            assert await ask_in(ask, theirs, 80, netns=lan.netns) == f"c1 {lan.address}"
            assert await ask_in(ask, theirs, 80, netns=second.netns) == f"c1 {ours}"
            assert await ask_in(ask, lan.address, 80, netns=second.netns) == f"lan {ours}"
            mac = made.settings("c2")["Networks"]["lan"]["MacAddress"]
            assert mac in inside(second.netns, "ip", "link", "show", "eth0")
            await made.detach("c1")
            await made.detach("c2")
            await made.remove("lan")
        assert "lan0" in links()

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
@pytest.mark.parametrize("mode", ["private", "vepa", "passthru", "bridge"])
def test_modes_of_macvlan(mode: str) -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await macvlan(made, parent="lan0", macvlan_mode=mode)
            first = await made.attach("c1", "c1", "c1", "lan")
            shown = inside(first.netns, "ip", "-d", "link", "show", "eth0")
            assert f"macvlan mode {mode}" in shown
            if mode == "passthru":  # the parent is one container's
                with pytest.raises(errors.Unavailable, match="lan0"):
                    await made.attach("c2", "c2", "c2", "lan")
            else:
                second = await made.attach("c2", "c2", "c2", "lan")
                stack.enter_context(server("c1", 80, netns=first.netns))
                theirs = made.settings("c1")["Networks"]["lan"]["IPAddress"]
                said = await asyncio.to_thread(ask, theirs, 80, netns=second.netns, timeout_s=1.0)
                assert said.startswith("c1") == (mode == "bridge")
                await made.detach("c2")
            await made.detach("c1")
            await made.remove("lan")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_joining_and_leaving_a_macvlan_network_while_running() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await macvlan(made, parent="lan0")
            sandbox = await made.attach("c1", "c1", "c1")
            assert kinds(sandbox.netns)["eth0"] == "veth"
            await made.connect("lan", "c1", {"IPAMConfig": {"IPv4Address": "192.0.2.77"}})
            assert kinds(sandbox.netns)["eth1"] == "macvlan"
            stack.enter_context(server("c1", 80, netns=sandbox.netns))
            said = await asyncio.to_thread(ask, "192.0.2.77", 80, netns=lan.netns)
            assert said == f"c1 {lan.address}"
            await made.disconnect("bridge", "c1")
            default = json.loads(inside(sandbox.netns, "ip", "-j", "route", "show", "default"))
            assert [route["dev"] for route in default] == ["eth1"]
            await made.connect("bridge", "c1", {})
            await made.disconnect("lan", "c1")
            assert "eth1" not in kinds(sandbox.netns)
            assert not made.inspect("lan")["Containers"]
            await made.detach("c1")
            await made.remove("lan")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_a_daemon_that_comes_back_finds_its_macvlan_containers() -> None:
    async def first(root: Path) -> str:
        async with networks(root) as made:
            await macvlan(made, parent="lan0")
            return str((await made.attach("c1", "c1", "c1", "lan")).netns)

    async def second(root: Path, lan: Neighbour, netns: str) -> None:
        async with networks(root, live=["c1"]) as made:
            address = made.settings("c1")["Networks"]["lan"]["IPAddress"]
            with server("c1", 80, netns=netns):
                said = await asyncio.to_thread(ask, address, 80, netns=lan.netns)
            assert said == f"c1 {lan.address}"
            other = await made.attach("c2", "c2", "c2", "lan")
            assert other.settings["Networks"]["lan"]["IPAddress"] != address
            await made.detach("c2")
            await made.detach("c1")
            await made.remove("lan")

    with temporary_root() as root, ExitStack() as stack:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        netns = asyncio.run(first(root))
        asyncio.run(second(root, lan, netns))


@isolated
def test_what_this_kernel_lacks_is_told_and_leaves_nothing() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        asked: list[tuple[str, str, dict[str, str]]] = [
            ("ipvlan", "ipvlan", {"parent": "lan0"}),
            ("vlan", "macvlan", {"parent": "lan0.7"}),
            ("dummy", "macvlan", {}),
        ]
        async with networks(root) as made:
            for kind, driver, options in asked:
                body = {"Name": "n", "Driver": driver, "IPAM": SUBNET, "Options": options}
                before = links()
                if has_kind(kind):
                    await made.create(body)
                    sandbox = await made.attach("c1", "c1", "c1", "n")
                    assert kinds(sandbox.netns)["eth0"] == driver
                    await made.detach("c1")
                    await made.remove("n")
                else:
                    with pytest.raises(errors.Unsupported, match="kernel"):
                        await made.create(body)
                    with pytest.raises(errors.NotFound):
                        made.inspect("n")
                assert links() == before

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_wrong_parents_are_refused() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await macvlan(made, parent="lan0")
            body = {"Name": "other", "Driver": "macvlan", "Options": {"parent": "lan0"}}
            with pytest.raises(errors.Forbidden, match="already using parent interface lan0"):
                await made.create(body)
            with pytest.raises(errors.InvalidArgument, match="invalid subinterface vlan name"):
                await macvlan(made, "other", parent="nothere")
            body["Options"] = {"parent": "no0.5"}
            with pytest.raises(errors.InvalidArgument, match="not found on this host"):
                await made.create(body)
            assert [n["Name"] for n in made.summaries({"driver": ["macvlan"]})] == ["lan"]
            await made.remove("lan")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


# -- overlay: two daemons, each on a machine of its own


def overlay(local: str, peer: str, first: int, **more: str) -> dict[str, Any]:
    ipam = {"Config": [{"Subnet": "10.99.0.0/24", "IPRange": f"10.99.0.{first}/26"}]}
    options = {
        "barque.overlay.local": local,
        "barque.overlay.peers": peer,
        "com.docker.network.driver.overlay.vxlanid_list": "4242",
        **more,
    }
    return {"Name": "over", "Driver": "overlay", "IPAM": ipam, "Options": options}


def other_host(lan: Neighbour, root: Path, go: int, told: int) -> None:
    """In a child: a daemon on the neighbour, whose container answers until told to end."""
    from barque.linux.mount import mount
    from barque.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, setns, unshare

    fd = os.open(lan.netns, os.O_RDONLY)
    setns(fd, CLONE_NEWNET)
    unshare(CLONE_NEWNS)
    mount("sysfs", "/sys", "sysfs")

    async def life() -> None:
        async with networks(root, NetworkOptions(bridge=BRIDGE)) as made:
            await made.create(overlay(lan.address, lan.ours, 64))
            sandbox = await made.attach("far", "far", "far", "over")
            with server("far", 80, netns=sandbox.netns):
                address = made.settings("far")["Networks"]["over"]["IPAddress"]
                os.write(told, f"{address}\n".encode())
                await asyncio.to_thread(os.read, go, 1)
            await made.detach("far")
            await made.remove("over")

    asyncio.run(life())


@isolated
def test_an_overlay_spans_two_hosts() -> None:
    async def near(root: Path, far: str, lan: Neighbour) -> None:
        async with networks(root) as made:
            await made.create(overlay(lan.ours, lan.address, 128))
            sandbox = await made.attach("near", "near", "near", "over")
            mine = made.settings("near")["Networks"]["over"]["IPAddress"]
            assert mine != far
            for _ in range(100):  # the far side's bridge may not forward in its first moment
                said = await asyncio.to_thread(ask, far, 80, netns=sandbox.netns, timeout_s=2.0)
                if said == f"far {mine}":
                    break
            assert said == f"far {mine}"
            assert "mtu 1450" in inside(sandbox.netns, "ip", "link", "show", "eth0")
            # while running, beside another network
            plain = await made.attach("c2", "c2", "c2")
            await made.connect("over", "c2", {})
            joined = await asyncio.to_thread(ask, far, 80, netns=plain.netns)
            assert joined.startswith("far 10.99.0.")
            await made.disconnect("over", "c2")
            await made.detach("c2")
        # a daemon that comes back
        async with networks(root, live=["near"]) as made:
            again = await asyncio.to_thread(ask, far, 80, netns=sandbox.netns)
            assert again == f"far {mine}"
            run("ip", "link", "del", next(name for name in links() if name.startswith("vx-")))
        # and one after the machine has lost the link
        async with networks(root, live=["near"]) as made:
            again = await asyncio.to_thread(ask, far, 80, netns=sandbox.netns, timeout_s=20.0)
            assert again == f"far {mine}"
            await made.detach("near")
            await made.remove("over")
        assert not [name for name in links() if name.startswith(("vx-", "br-"))]

    with temporary_root() as ours, temporary_root() as theirs, ExitStack() as stack:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        (go_read, go_write), (told_read, told_write) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go_write)
                other_host(lan, theirs, go_read, told_write)
                status = 0
            finally:
                os._exit(status)
        os.close(told_write)
        with os.fdopen(told_read) as told:
            far = told.readline().strip()
        try:
            asyncio.run(near(ours, far, lan))
        finally:
            os.close(go_write)
            _, status = os.waitpid(pid, 0)
        assert status == 0


@isolated
def test_an_overlay_of_both_families() -> None:
    async def scenario(root: Path, lan: Neighbour) -> None:
        async with networks(root) as made:
            body = overlay(lan.ours, lan.address, 128)
            body["IPAM"]["Config"].append({"Subnet": "fd00:99::/64"})
            await made.create({**body, "EnableIPv6": True})
            one = await made.attach("one", "one", "one", "over")
            two = await made.attach("two", "two", "two", "over")
            far = two.settings["Networks"]["over"]["GlobalIPv6Address"]
            near = one.settings["Networks"]["over"]["GlobalIPv6Address"]
            with server("two", 80, netns=two.netns, address=far):
                said = await asyncio.to_thread(ask, far, 80, netns=one.netns)
            assert said == f"two {near}"
            assert not json.loads(inside(one.netns, "ip", "-6", "-j", "route", "show", "default"))
            await made.detach("one")
            await made.detach("two")
            await made.remove("over")

    with temporary_root() as root, ExitStack() as stack:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        asyncio.run(scenario(root, lan))


@isolated
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"barque.overlay.peers": ""}, errors.Unsupported, "swarm"),
        ({"barque.overlay.peers": "nowhere"}, errors.InvalidArgument, "invalid IPv4 address"),
        ({"barque.overlay.peers": "224.0.0.1"}, errors.InvalidArgument, "no host's address"),
        ({"barque.overlay.port": "0"}, errors.InvalidArgument, "invalid number"),
        ({"encrypted": ""}, errors.Unsupported, "encrypted"),
        ({"colour": "red"}, errors.Unsupported, "colour=red"),
        (
            {"com.docker.network.driver.overlay.vxlanid_list": "16777216"},
            errors.InvalidArgument,
            "invalid number",
        ),
    ],
)
def test_wrong_options_of_an_overlay_are_refused(
    options: dict[str, str], error: type[Exception], text: str
) -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            with pytest.raises(error, match=text):
                await made.create(overlay("192.0.2.1", "192.0.2.2", 64, **options))
            assert not made.summaries({"driver": ["overlay"]})

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_container_in_no_network_is_known_to_the_next_daemon() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            sandbox = await made.attach("c1", "c1", "c1")
            await made.disconnect("bridge", "c1")
            assert made.settings("c1")["Networks"] == {}
        async with networks(root, live=["c1"]) as made:
            assert made.attached("c1")
            await made.connect("bridge", "c1", {})
            assert kinds(sandbox.netns).keys() == {"lo", "eth0"}
            assert list(made.settings("c1")["Networks"]) == ["bridge"]
        async with networks(root, live=["c1"]) as made:
            await made.disconnect("bridge", "c1")
            await made.detach("c1")
            assert not made.attached("c1")
        async with networks(root) as made:
            assert not made.attached("c1")

    with temporary_root() as root:
        asyncio.run(scenario(root))
