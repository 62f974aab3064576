"""IPv6 networks by the real docker CLI: ours and Debian's dockerd tell the same of them."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from ipaddress import IPv6Network
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.peer]


def test_a_network_and_a_place_in_it(engine: Any) -> None:
    name, network = f"c{secrets.token_hex(4)}", f"n{secrets.token_hex(4)}"
    subnet = IPv6Network((b"\xfd" + secrets.token_bytes(7) + bytes(8), 64))
    low, high = str(subnet), str(subnet.network_address + 9)
    with ExitStack() as undo:
        engine.docker("network", "create", "--ipv6", "--subnet", low, network)
        undo.callback(engine.docker, "network", "rm", network)
        (found,) = json.loads(engine.docker("network", "inspect", network).stdout)
        assert found["EnableIPv6"] is True
        sixth = [c for c in found["IPAM"]["Config"] if ":" in c["Subnet"]]
        assert [c["Subnet"] for c in sixth] == [low]
        engine.docker("run", "-d", "--name", name, "--network", network, "--ip6", high,
                      "busybox", "sleep", "1000")  # fmt: skip
        undo.callback(engine.docker, "rm", "-f", name)
        (seen,) = json.loads(engine.docker("inspect", name).stdout)
        place = seen["NetworkSettings"]["Networks"][network]
        assert place["GlobalIPv6Address"] == high
        assert place["GlobalIPv6PrefixLen"] == 64
        assert place["IPv6Gateway"] == str(subnet.network_address + 1)
        assert place["IPAMConfig"]["IPv6Address"] == high
        (found,) = json.loads(engine.docker("network", "inspect", network).stdout)
        assert [m["IPv6Address"] for m in found["Containers"].values()] == [f"{high}/64"]
        hosts = engine.docker("exec", name, "cat", "/etc/hosts").stdout.decode()
        assert f"{high}\t" in hosts
        shown = engine.docker("exec", name, "cat", "/proc/net/if_inet6").stdout.decode()
        assert "eth0" in shown
        again = engine.docker(
            "run", "--rm", "--network", network, "--ip6", high, "busybox", "true", check=False
        )
        assert again.returncode == 125
        assert b"Address already in use" in again.stderr
