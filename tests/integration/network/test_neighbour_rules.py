"""Rules of others beside ours, as docs/firewall.md has them: never bypassed, never touched."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.netns_host import Neighbour, ask, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
PORTS = {"80/tcp": [{"HostPort": "8080"}], "81/tcp": [{"HostPort": "8081"}]}
SITE = f"""
table inet site {{
    chain forward {{
        type filter hook forward priority filter - 1; policy accept;
        oifname "{BRIDGE}" meta l4proto tcp ct original proto-dst 8080 ip saddr 192.0.2.0/24 drop
    }}
}}
"""
STRICT = """
table inet site {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
    }
}
"""


@isolated
def test_a_users_own_table_decides_who_reaches_a_published_port() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        one, two = Neighbour("ext1", "192.0.2"), Neighbour("ext2", "198.51.100")
        stack.callback(one.close)
        stack.callback(two.close)
        run("nft", "-f", "-", stdin=SITE)
        listed = run("nft", "list", "table", "inet", "site")
        async with networks(root) as made:
            web = await made.attach("web", "web", "web", ports=PORTS)
            for port in (80, 81):
                stack.enter_context(server(f"web{port}", port, netns=web.netns))
            for _ in range(2):  # before and after our table is loaded anew
                shut = ask(one.ours, 8080, netns=one.netns, timeout_s=0.5)
                assert shut.startswith("failed")
                assert ask(two.ours, 8080, netns=two.netns, timeout_s=30) == f"web80 {two.address}"
                assert ask(one.ours, 8081, netns=one.netns, timeout_s=30) == f"web81 {one.address}"
                await made.create({"Name": "more"})
                await made.remove("more")
                made._host.firewall.reload()
            await made.detach("web")
        assert run("nft", "list", "table", "inet", "site") == listed

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_a_firewall_that_drops_by_default_is_not_bypassed() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext1", "192.0.2")
        stack.callback(lan.close)
        run("nft", "-f", "-", stdin=STRICT)
        async with networks(root) as made:
            web = await made.attach("web", "web", "web", ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns))
            shut = ask(lan.ours, 8080, netns=lan.netns, timeout_s=0.5)
            assert shut.startswith("failed")
            run("nft", "add", "rule", "inet", "site", "forward", "ct status dnat accept")
            assert ask(lan.ours, 8080, netns=lan.netns, timeout_s=30) == f"web {lan.address}"
            await made.detach("web")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))
