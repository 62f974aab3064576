"""The networks service on a root of its own, for tests inside `isolated`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.names import Names
from barque.daemon.networks.service import Networks
from barque.daemon.proxy_link import ProxyLink
from barque.network.options import NetworkOptions
from barque.program import command

BRIDGE = "bqt0"
FULL_S = 30.0


def open_networks(root: Path, options: NetworkOptions | None = None) -> tuple[Networks, Database]:
    (root / "netns").mkdir(exist_ok=True)
    database = Database.open(root / "daemon.db")
    networks = Networks(
        database,
        Events(),
        owner=str(root),
        netns=root / "netns",
        maker_argv=command("barque-netns"),
        names=Names(root, command("barque-dns", str(root))),
        proxy=ProxyLink(root, command("barque-proxy", str(root))),
        options=options or NetworkOptions(bridge=BRIDGE),
    )
    return networks, database


@asynccontextmanager
async def networks(
    root: Path, options: NetworkOptions | None = None, live: Iterable[str] = ()
) -> AsyncIterator[Networks]:
    """Started and restored with containers `live`; closed at the end."""
    made, database = open_networks(root, options)
    try:
        await made.start()
        await made.restore(live)
        await made.wait_ready()
        yield made
    finally:
        await made.close()
        database.close()


async def pool_full(made: Networks) -> None:
    assert await asyncio.to_thread(made.pool.wait_full, FULL_S)
