"""What may be asked of a container's place in a network: ours and Debian's dockerd beside it."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.subnets import Subnet

pytestmark = [pytest.mark.root, pytest.mark.peer]
MODE = "com.docker.network.bridge.gateway_mode_ipv4"


def network(engine: Any, undo: ExitStack, *options: str) -> tuple[str, str]:
    """A new network, and what its addresses begin with."""
    subnet = Subnet()
    undo.callback(subnet.release)
    name, prefix = f"n{secrets.token_hex(4)}", f"10.214.{subnet.number}"
    engine.docker("network", "create", "--subnet", f"{prefix}.0/24", *options, name)
    undo.callback(engine.docker, "network", "rm", name)
    return name, prefix


def place(engine: Any, container: str, name: str) -> dict[str, Any]:
    (seen,) = json.loads(engine.docker("inspect", container).stdout)
    found: dict[str, Any] = seen["NetworkSettings"]["Networks"][name]
    return found


def container(engine: Any, undo: ExitStack, *options: str) -> str:
    name = f"c{secrets.token_hex(4)}"
    engine.docker("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
    undo.callback(engine.docker, "rm", "-f", name)
    return name


def test_link_local_addresses(engine: Any) -> None:
    with ExitStack() as undo:
        name, prefix = network(engine, undo)
        asked = ("--network", name, "--ip", f"{prefix}.9", "--link-local-ip", "169.254.9.9")
        one = container(engine, undo, *asked)
        found = place(engine, one, name)
        assert found["IPAMConfig"] == {
            "IPv4Address": f"{prefix}.9",
            "LinkLocalIPs": ["169.254.9.9"],
        }
        shown = engine.docker("exec", one, "ip", "addr", "show", "dev", "eth0").stdout.decode()
        assert "inet 169.254.9.9/16" in shown
        assert f"inet {prefix}.9/24" in shown


def test_link_local_addresses_of_one_that_joins(engine: Any) -> None:
    with ExitStack() as undo:
        first, _ = network(engine, undo)
        second, prefix = network(engine, undo)
        one = container(engine, undo, "--network", first)
        engine.docker("network", "connect", "--link-local-ip", "169.254.7.7", second, one)
        assert place(engine, one, second)["IPAMConfig"]["LinkLocalIPs"] == ["169.254.7.7"]
        shown = engine.docker("exec", one, "ip", "addr", "show", "dev", "eth1").stdout.decode()
        assert "inet 169.254.7.7/16" in shown
        assert f"inet {prefix}." in shown
        engine.docker("network", "disconnect", second, one)


def test_names_settings_and_priorities_as_later_dockers_have_them(barque: Stack) -> None:
    with ExitStack() as undo:
        first, _ = network(barque, undo)
        second, prefix = network(barque, undo)
        option = "com.docker.network.endpoint"
        settings = f"{option}.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
        one = f"c{secrets.token_hex(4)}"
        barque.cli(
            *("run", "-d", "--name", one, "--network", first),
            *("--network", f"name={second},gw-priority=1,driver-opt={settings},"
              f"driver-opt={option}.ifname=lan0"),
            *("busybox", "sleep", "1000"),
        )  # fmt: skip
        undo.callback(barque.docker, "rm", "-f", one)
        read = ("exec", one, "cat", "/proc/sys/net/ipv4/conf/lan0/log_martians")
        assert barque.docker(*read).stdout == b"1\n"
        routes = barque.docker("exec", one, "ip", "route", "show", "default").stdout.decode()
        assert f"via {prefix}.1 dev lan0" in routes
        wrong = barque.docker(
            *("network", "connect", "--driver-opt", f"{option}.sysctls=net.ipv4.ip_forward=1"),
            *("bridge", one),
            check=False,
        )
        assert b"unrecognised network interface sysctl" in wrong.stderr


def test_modes_as_later_dockers_have_them(barque: Stack) -> None:
    with ExitStack() as undo:
        name, prefix = network(barque, undo, "-o", f"{MODE}=routed")
        one = container(barque, undo, "--network", name, "-p", "8080:80")
        (seen,) = json.loads(barque.docker("inspect", one).stdout)
        assert seen["NetworkSettings"]["Ports"] == {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]
        }
        assert place(barque, one, name)["IPAddress"].startswith(f"{prefix}.")
        wrong = barque.docker("network", "create", "-o", f"{MODE}=isolated", name, check=False)
        assert b"can only be used for an internal network" in wrong.stderr
