"""The members of a tar stream, one after the other, as they come.

async for member in members(chunks):
    async for chunk in member.chunks: ...       # before the next member; what is left is skipped
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from barque import errors
from barque.oci import tar
from barque.oci.tar import Data, End, Entry, Event, Reader


@dataclass(slots=True)
class Member:
    name: str
    size: int
    is_file: bool
    link: str  # where a link leads, "" for no link
    symbolic: bool
    chunks: AsyncIterator[bytes]


class _Events:
    """The reader's events over a stream of chunks."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._reader = Reader()
        self._kept: Event | None = None

    async def next(self) -> Event:
        if self._kept is not None:
            event, self._kept = self._kept, None
            return event
        while True:
            following = self._reader.next_event()
            if following is not None:
                return following
            try:
                self._reader.feed(await anext(self._chunks))
            except StopAsyncIteration:
                self._reader.end()

    async def data(self) -> AsyncIterator[bytes]:
        """The bytes of the entry before; the event after them is kept."""
        while True:
            event = await self.next()
            if not isinstance(event, Data):
                self._kept = event
                return
            yield bytes(event.payload)

    async def drain(self) -> None:
        async for _ in self._chunks:  # padding: the sender wants to get rid of it
            pass


async def members(chunks: AsyncIterator[bytes]) -> AsyncIterator[Member]:
    """Raises InvalidArgument for what is no tar, or ends too early. Reads the stream to its end."""
    events = _Events(chunks)
    while True:
        event = await events.next()
        if isinstance(event, End):
            await events.drain()
            return
        if isinstance(event, Entry):
            yield _member(event, events)


def _member(entry: Entry, events: _Events) -> Member:
    name = entry.name.decode("utf-8", "surrogateescape")
    if entry.pieces is not None:
        raise errors.Unsupported(f"sparse member {name[:200]!r} in an archive of images")
    return Member(
        name,
        entry.size,
        entry.kind == tar.REGULAR,
        entry.link.decode("utf-8", "surrogateescape"),
        entry.kind == tar.SYMLINK,
        events.data(),
    )
