"""Networks and addresses that a plugin keeps, by libnetwork's remote protocols."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.plugins import parse_join
from barque.linux.mount import mount
from tests.support.netns_host import ask, isolated, run, server, temporary_root
from tests.support.network_plugin import Plugin
from tests.support.networks import networks
from tests.support.plugin_server import serving

pytestmark = pytest.mark.root
SUBNET = {"Config": [{"Subnet": "10.66.0.0/24"}]}
PLUGGED: dict[str, Any] = {"Driver": "bqplug", "IPAM": SUBNET, "Options": {"colour": "red"}}


@contextmanager
def plugged() -> Iterator[Plugin]:
    """A plugin `bqplug`, and a directory of plugins that is this test's alone."""
    mount("tmpfs", "/run", "tmpfs")
    directory = Path("/run/docker/plugins")
    directory.mkdir(parents=True)
    run("ip", "link", "add", "pbr0", "type", "bridge")
    run("ip", "link", "set", "pbr0", "up")
    plugin = Plugin("pbr0")
    with serving(directory / "bqplug.sock", plugin.answer):
        yield plugin


def with_plugin(scenario: Callable[[Path, Plugin], Awaitable[None]]) -> None:
    with temporary_root() as root, ExitStack() as stack:
        plugin = stack.enter_context(plugged())
        asyncio.run(_run(scenario(root, plugin)))
        assert not plugin.networks
        assert not plugin.endpoints
        assert not plugin.external
        assert not plugin.pools
        assert not plugin.addresses


async def _run(work: Awaitable[None]) -> None:
    await work


def shown(netns: str | None, *argv: str) -> Any:
    assert netns is not None
    return json.loads(run("ip", "-j", *argv, netns=netns))


@isolated
def test_places_in_a_network_of_a_plugin() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        plugin.join = {
            "Gateway": "10.66.0.1",
            "StaticRoutes": [
                {"Destination": "10.70.0.0/16", "RouteType": 0, "NextHop": "10.66.0.9"},
                {"Destination": "10.71.0.0/16", "RouteType": 1},
            ],
        }
        async with networks(root) as made:
            network, _ = await made.create({"Name": "far", **PLUGGED})
            created = dict(plugin.calls)["NetworkDriver.CreateNetwork"]
            assert created["NetworkID"] == network
            assert created["Options"]["com.docker.network.generic"] == {"colour": "red"}
            assert created["IPv4Data"][0]["Pool"] == "10.66.0.0/24"
            assert created["IPv4Data"][0]["Gateway"] == "10.66.0.1/24"
            first = await made.attach("c1", "c1", "c1", "far")
            second = await made.attach("c2", "c2", "c2", "far")
            places = [made.settings(name)["Networks"]["far"] for name in ("c1", "c2")]
            assert places[0]["Gateway"] == "10.66.0.1"
            assert places[0]["MacAddress"].startswith("02:aa:")
            link = shown(first.netns, "link", "show", "eth0")[0]
            assert link["address"] == places[0]["MacAddress"]
            routes = {item["dst"]: item for item in shown(first.netns, "route")}
            assert routes["default"]["gateway"] == "10.66.0.1"
            assert routes["10.70.0.0/16"]["gateway"] == "10.66.0.9"
            assert "gateway" not in routes["10.71.0.0/16"]
            joined = dict(plugin.calls)["NetworkDriver.Join"]
            assert joined["SandboxKey"] == second.netns
            with server("c1", 80, netns=first.netns):
                said = await asyncio.to_thread(ask, places[0]["IPAddress"], 80, netns=second.netns)
            assert said == f"c1 {places[1]['IPAddress']}"
            with pytest.raises(errors.Forbidden, match="active endpoints"):
                await made.remove("far")
            await made.detach("c1")
            await made.detach("c2")
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_joining_and_leaving_while_running_and_a_daemon_that_comes_back() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            await made.create({"Name": "far", **PLUGGED})
            sandbox = await made.attach("c1", "c1", "c1")
            await made.connect("far", "c1", {"IPAMConfig": {"IPv4Address": "10.66.0.77"}})
            assert shown(sandbox.netns, "addr", "show", "eth1")[0]["addr_info"][0]["local"] == (
                "10.66.0.77"
            )
            await made.disconnect("far", "c1")
            assert len(shown(sandbox.netns, "link")) == 2
            told = [name for name in plugin.methods() if name != "Plugin.Activate"]
            assert told[-2:] == ["NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint"]
            await made.connect("far", "c1", {})
        async with networks(root, live=["c1"]) as made:
            assert list(made.settings("c1")["Networks"]) == ["bridge", "far"]
            await made.detach("c1")
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_a_plugin_that_refuses_leaves_nothing_behind() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            plugin.refuse = "NetworkDriver.CreateNetwork"
            with pytest.raises(errors.BarqueError, match="CreateNetwork is refused"):
                await made.create({"Name": "far", **PLUGGED})
            assert not made.summaries({"name": ["far"]})
            plugin.refuse = ""
            await made.create({"Name": "far", **PLUGGED})
            for refused in ("CreateEndpoint", "Join"):
                plugin.refuse = f"NetworkDriver.{refused}"
                with pytest.raises(errors.BarqueError, match=f"{refused} is refused"):
                    await made.attach("c1", "c1", "c1", "far")
                assert not made.attached("c1")
                assert not made.inspect("far")["Containers"]
            plugin.refuse = "NetworkDriver.Leave"  # the container goes all the same
            await made.attach("c1", "c1", "c1", "far")
            await made.detach("c1")
            assert not plugin.endpoints
            plugin.refuse = "NetworkDriver.DeleteNetwork"
            with pytest.raises(errors.BarqueError, match="DeleteNetwork is refused"):
                await made.remove("far")
            plugin.refuse = ""
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_the_plugin_of_the_way_out_is_told_of_it() -> None:
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    told = [{"Proto": 6, "Port": 80, "HostIP": "127.0.0.1", "HostPort": 8080}]

    async def scenario(root: Path, plugin: Plugin) -> None:
        plugin.join = {"Gateway": "10.66.0.1"}
        async with networks(root) as made:
            await made.create({"Name": "far", **PLUGGED})
            await made.attach("c1", "c1", "c1", "far", ports=ports)
            assert list(plugin.external.values()) == [told]
            await made.connect("bridge", "c1", {})
            await made.disconnect("far", "c1")
            assert plugin.external == {}
            await made.connect("far", "c1", {})
            assert plugin.external == {}  # another place leads out
            await made.disconnect("bridge", "c1")
            assert list(plugin.external.values()) == [told]
        async with networks(root, live=["c1"]) as made:
            await made.detach("c1")
            assert plugin.external == {}
            plugin.lacks = "NetworkDriver.ProgramExternalConnectivity"
            await made.attach("c1", "c1", "c1", "far")
            plugin.lacks = "NetworkDriver.RevokeExternalConnectivity"
            await made.detach("c1")
            plugin.lacks = ""
            plugin.refuse = "NetworkDriver.ProgramExternalConnectivity"
            words = "driver failed programming external connectivity on endpoint c1"
            with pytest.raises(errors.BarqueError, match=words):
                await made.attach("c1", "c1", "c1", "far")
            assert not plugin.endpoints
            plugin.refuse = ""
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_a_plugin_that_dies_in_the_middle_of_a_call_leaves_nothing() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            await made.create({"Name": "far", **PLUGGED})
            for method in ("CreateEndpoint", "Join"):
                plugin.dies = f"NetworkDriver.{method}"
                with pytest.raises(errors.Unavailable, match=f"NetworkDriver.{method}"):
                    await made.attach("c1", "c1", "c1", "far")
                assert not made.attached("c1")
                assert not plugin.endpoints
            for method in ("Leave", "DeleteEndpoint"):
                plugin.dies = ""
                await made.attach("c1", "c1", "c1", "far")
                plugin.dies = f"NetworkDriver.{method}"
                await made.detach("c1")  # the container goes all the same
                assert not made.attached("c1")
                assert not plugin.endpoints
            plugin.dies = "NetworkDriver.DeleteNetwork"
            with pytest.raises(errors.Unavailable):
                await made.remove("far")
            plugin.dies = ""
            assert not plugin.networks
            await made.remove("far")  # the plugin knows it no more
            assert not made.summaries({"name": ["far"]})

    with_plugin(scenario)


@isolated
def test_a_plugin_that_was_started_again_is_told_what_it_has_forgotten() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            network, _ = await made.create({"Name": "far", **PLUGGED})
            await made.attach("c1", "c1", "c1", "far")
            plugin.networks.clear()
            await made.attach("c2", "c2", "c2", "far")
            assert plugin.networks == {network}
            created = [body for name, body in plugin.calls if name.endswith("CreateNetwork")]
            assert created[0] == created[1]
            plugin.networks.clear()
            plugin.refuse = "NetworkDriver.CreateNetwork"
            with pytest.raises(errors.BarqueError, match="CreateNetwork is refused"):
                await made.attach("c3", "c3", "c3", "far")
            plugin.refuse = ""
            plugin.networks.add(network)
            await made.detach("c1")
            await made.detach("c2")
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_addresses_of_a_plugin() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            body = {"Name": "kept", "IPAM": {"Driver": "bqplug", "Options": {"a": "b"}}}
            await made.create(body)
            document = made.inspect("kept")
            assert document["IPAM"]["Driver"] == "bqplug"
            assert document["IPAM"]["Options"] == {"a": "b"}
            assert document["IPAM"]["Config"] == [
                {"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.254"}
            ]
            sandbox = await made.attach("c1", "c1", "c1", "kept")
            assert sandbox.settings["Networks"]["kept"]["IPAddress"] == "10.77.0.253"
            await made.attach("c2", "c2", "c2", "bridge")
            await made.connect("kept", "c2", {})
            assert len(plugin.addresses) == 3
            await made.disconnect("kept", "c2")
            await made.detach("c2")
            assert len(plugin.addresses) == 2
            plugin.refuse = "IpamDriver.RequestAddress"
            with pytest.raises(errors.BarqueError, match="RequestAddress is refused"):
                await made.attach("c3", "c3", "c3", "kept")
            plugin.refuse = ""
        async with networks(root, live=["c1"]) as made:
            await made.detach("c1")
            await made.remove("kept")

    with_plugin(scenario)


@isolated
def test_pools_that_do_not_fit_are_given_back() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            body = {"Name": "kept", "IPAM": {"Driver": "bqplug"}}
            await made.create(body)
            with pytest.raises(errors.Forbidden, match="overlaps"):
                await made.create({**body, "Name": "again"})
            plugin.refuse = "IpamDriver.RequestAddress"
            other = {"Driver": "bqplug", "Config": [{"Subnet": "10.78.0.0/24"}]}
            with pytest.raises(errors.BarqueError, match="is refused"):
                await made.create({"Name": "again", "IPAM": other})
            plugin.refuse = ""
            assert len(plugin.pools) == 1
            await made.remove("kept")
            with pytest.raises(errors.NotFound, match="could not find plugin nobody"):
                await made.create({"Name": "x", "Driver": "nobody"})
            with pytest.raises(errors.NotFound, match="could not find plugin nobody"):
                await made.create({"Name": "x", "IPAM": {"Driver": "nobody"}})

    with_plugin(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"InterfaceName": "eth0"},
        {"InterfaceName": {"SrcName": "../x", "DstPrefix": "eth"}},
        {"InterfaceName": {"SrcName": "a", "DstPrefix": "eth0"}},
        {"InterfaceName": {"SrcName": "a", "DstPrefix": "a/b"}},
        {"InterfaceName": {"SrcName": "a"}, "Gateway": "here"},
        {"InterfaceName": {"SrcName": "a"}, "StaticRoutes": [{"Destination": "x"}]},
        {"InterfaceName": {"SrcName": "a"}, "StaticRoutes": 5},
        {"InterfaceName": {"SrcName": "a"}, "StaticRoutes": [{"Destination": "10.0.0.0/8"}] * 999},
    ],
)
def test_answers_that_are_not_believed(answer: dict[str, Any]) -> None:
    with pytest.raises(errors.BarqueError, match="plugin p: NetworkDriver"):
        parse_join("p", answer, "")


@isolated
def test_both_families_of_plugins() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        plugin.join = {
            "GatewayIPv6": "fd00:77::1",
            "StaticRoutes": [{"Destination": "fd00:99::/64", "RouteType": 1}],
        }
        async with networks(root) as made:
            body = {"Name": "far", "Driver": "bqplug", "EnableIPv6": True}
            subnets = [{"Subnet": "10.77.0.0/24"}, {"Subnet": "fd00:77::/120"}]
            await made.create({**body, "IPAM": {"Driver": "bqplug", "Config": subnets}})
            created = dict(plugin.calls)["NetworkDriver.CreateNetwork"]
            assert created["IPv6Data"][0]["Pool"] == "fd00:77::/120"
            assert created["IPv6Data"][0]["Gateway"] == "fd00:77::ff/120"
            assert len(made.inspect("far")["IPAM"]["Config"]) == 2
            one = await made.attach("c1", "c1", "c1", "far")
            asked = {"far": {"IPAMConfig": {"IPv6Address": "fd00:77::42"}}}
            two = await made.attach("c2", "c2", "c2", endpoints=asked)
            place = two.settings["Networks"]["far"]
            assert (place["GlobalIPv6Address"], place["IPv6Gateway"]) == (
                "fd00:77::42",
                "fd00:77::1",
            )
            routes = {item["dst"]: item for item in shown(two.netns, "-6", "route")}
            assert routes["default"]["gateway"] == "fd00:77::1"
            assert "gateway" not in routes["fd00:99::/64"]
            with server("two", 80, netns=two.netns, address="fd00:77::42"):
                said = await asyncio.to_thread(ask, "fd00:77::42", 80, netns=one.netns)
            assert said == f"two {one.settings['Networks']['far']['GlobalIPv6Address']}"
            plugin.refuse = "NetworkDriver.Join"
            with pytest.raises(errors.BarqueError, match="Join is refused"):
                await made.attach("c3", "c3", "c3", "far")
            plugin.refuse = ""
            assert len(plugin.addresses) == 6
        async with networks(root, live=["c1"]) as made:
            assert len(plugin.addresses) == 4
            await made.detach("c1")
            await made.remove("far")

    with_plugin(scenario)


@isolated
def test_a_pool_of_the_second_family_that_is_refused_gives_the_first_back() -> None:
    async def scenario(root: Path, plugin: Plugin) -> None:
        async with networks(root) as made:
            pool = {"Driver": "bqplug", "Config": [{"Subnet": "10.77.0.0/24"}]}
            plugin.pools["other"] = IPv6Network("fd00:77::/64")
            taken = {"Config": [{"Subnet": "fd00:77::/64"}]}
            await made.create({"Name": "six", "EnableIPv6": True, "IPAM": taken})
            with pytest.raises(errors.Forbidden, match="overlaps"):
                await made.create({"Name": "far", "EnableIPv6": True, "IPAM": pool})
            assert list(plugin.pools) == ["other"]
            del plugin.pools["other"]
            await made.remove("six")

    with_plugin(scenario)
