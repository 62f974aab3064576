"""The images service alone over a containerd, for tests; and small layers, good and bad."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from barque.containerd.client import Containerd
from barque.daemon.events import Events
from barque.daemon.images.containerd_store import FETCH_PREFIX, ContainerdStore
from barque.daemon.images.progress import Progress, run
from barque.daemon.images.remove import User
from barque.daemon.images.service import Images
from barque.registry import ANONYMOUS, Credentials

NAMESPACE = "moby"


@dataclass(slots=True)
class Bench:
    """`users` may be filled by the test: containers by image id."""

    images: Images
    containerd: Containerd
    events: Events
    users: dict[str, Sequence[User]] = field(default_factory=dict)

    async def lines(self, operation: Callable[[Progress], Awaitable[Any]]) -> list[dict[str, Any]]:
        async def quiet(progress: Progress) -> None:
            await operation(progress)

        raw = b"".join([chunk async for chunk in await run(quiet)])
        return [json.loads(line) for line in raw.splitlines()]

    async def load(self, archive: bytes) -> list[dict[str, Any]]:
        return await self.lines(lambda progress: self.images.load(pieces(archive), progress))

    async def import_(
        self, archive: bytes, repository: str = "", tag: str = "", changes: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        return await self.lines(
            lambda progress: self.images.import_(
                pieces(archive), repository, tag, "", changes, None, progress
            )
        )

    async def pull(
        self, repository: str, tag: str, credentials: Credentials = ANONYMOUS
    ) -> list[dict[str, Any]]:
        return await self.lines(
            lambda progress: self.images.pull(repository, tag, None, credentials, progress)
        )

    async def save(self, *wanted: str) -> bytes:
        return b"".join([chunk async for chunk in await self.images.save(wanted)])

    def actions(self) -> list[str]:
        return [event["Action"] for event in self.events.since(0)]

    async def _ingests(self) -> list[str]:
        return [status.ref for status in await self.containerd.content.statuses()]

    async def broken_off(self) -> list[str]:
        """The blobs that a pull did not get whole, for the next one to go on with."""
        return [ref for ref in await self._ingests() if ref.startswith(FETCH_PREFIX)]

    async def remains(self) -> dict[str, list[str]]:
        """All that containerd holds once what nothing leads to is collected; {} for nothing.

        But for `broken_off`: that is kept on purpose.
        """
        lease = await self.containerd.leases.create()
        await self.containerd.leases.delete(lease.id, sync=True)
        held = {
            "content": [info.digest async for info in self.containerd.content.list()],
            "ingests": [ref for ref in await self._ingests() if not ref.startswith(FETCH_PREFIX)],
            "snapshots": [found.key async for found in self.containerd.snapshots.list()],
            "images": [image.name for image in await self.containerd.images.list()],
            "leases": [found.id for found in await self.containerd.leases.list()],
        }
        return {kind: names for kind, names in held.items() if names}


@asynccontextmanager
async def bench(address: str) -> AsyncIterator[Bench]:
    """The service on a containerd; everything it made is removed at the end."""
    containerd = await Containerd.connect(address, NAMESPACE)
    users: dict[str, Sequence[User]] = {}
    events = Events()
    store = ContainerdStore(containerd)
    images = Images(store, events, lambda image_id: users.get(image_id, ()))
    await images.start()
    made = Bench(images, containerd, events, users)
    try:
        yield made
    finally:
        for image in await containerd.images.list():
            await containerd.images.delete(image.name)
        for ref in await made.broken_off():
            await containerd.content.abort(ref)
        assert await made.remains() == {}
        images.close()
        await asyncio.sleep(0)
        containerd.close()


async def pieces(data: bytes, size: int = 64 << 10) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def tar(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """A layer: regular files as (name, data), anything else as its header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                header = tarfile.TarInfo(entry[0])
                header.size = len(entry[1])
                archive.addfile(header, io.BytesIO(entry[1]))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def on(address: str, body: Callable[[Bench], Awaitable[None]]) -> None:
    """Run `body` over the containerd at `address`. The bench's end asserts that nothing is left."""

    async def run_it() -> None:
        async with bench(address) as made:
            await body(made)

    asyncio.run(run_it())
