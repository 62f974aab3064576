"""Layers unpacked while they come, before anybody asked for it.

A client that imports an archive writes all of its blobs and has them unpacked afterwards, one by
one. So what looks like a layer is unpacked into a directory of its own meanwhile:

    first bytes ──> guessed ──followed──> verified at COMMIT ──Apply of that digest──> moved there
                                │                   └──nobody asks──> removed
                                └──not a layer, given up, another digest, little room──> removed

It counts for nothing until a client has a blob of that digest applied onto a new snapshot of the
same snapshotter; what is then there is what unpacking it then would have made. After one that
nobody asked for none is unpacked ahead, until somebody has to wait for a layer again. Directories
have the number of a snapshot that is none: what a crash leaves is swept at the next start.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from barque.containerd.content.growth import Growth
from barque.containerd.content.ingest import Ingest
from barque.containerd.content.store import followed
from barque.containerd.diff.applying import Target, apply
from barque.containerd.diff.decompress import Layer, looks_like_layer
from barque.containerd.room import check_room
from barque.containerd.snapshots import unknown_parents
from barque.containerd.snapshots.snapshotter import APART
from barque.containerd.snapshots.store import Aside, SnapshotStore
from barque.containerd.snapshots.stores import SnapshotStores
from barque.containerd.threads import finished, in_thread
from barque.errors import BarqueError, InvalidArgument, ResourceExhausted
from barque.linux.fs import sync_filesystem

log = logging.getLogger(__name__)

SNAPSHOTTER = "overlayfs"
LEAST_BYTES = 1 << 20  # of a blob: a smaller one is unpacked as soon
AT_ONCE = 4  # unpacked at the same time
MOST = 128  # kept: more than an image has
GROWTH = 8  # times the bytes of a blob: there must be room for so many, and it is given up at more
KEPT_SHARE = 10  # of the disk is left free
QUIET_S = 60.0  # without one more, or one taken: the client wants none
OURS = "barque-"  # refs of our daemon, which asks for what it wants unpacked as it comes


class Unpacked:
    """One blob, in a directory of its own."""

    def __init__(self, aside: Aside, growth: Growth, fd: int, most: int) -> None:
        """`most` bytes of it are unpacked."""
        self.aside, self.growth, self.fd = aside, growth, fd
        self._left = most
        self._cancelled = threading.Event()
        self._running: asyncio.Task[tuple[str, int]]

    def start(self, workers: ThreadPoolExecutor) -> asyncio.Task[tuple[str, int]]:
        target = Target(self.aside.directory, overlay=True, lowers=(), apart=True)
        layer = Layer(self.fd, "", self.growth, self._cancelled)
        work = partial(apply, layer, target, self._cancelled, room=self._room)
        self._running = asyncio.create_task(finished(workers, work, self.cancel))
        return self._running

    def _room(self, place: int | str, wanted: int, what: str) -> None:
        self._left -= wanted
        if self._left < 0:
            raise ResourceExhausted(f"{what} grows to more than {GROWTH} times its bytes")
        room(place, wanted, what)

    def cancel(self) -> None:
        self._cancelled.set()
        self.growth.wake()

    async def whole(self) -> tuple[str, int] | None:
        """The digest and size of its plain bytes, once it ended; None for one that failed."""
        await asyncio.wait([self._running])
        if self._running.cancelled() or self._running.exception() is not None:
            return None
        return self._running.result()

    def when_done(self, work: Callable[[], None]) -> None:
        if self._running.done():
            work()
        else:
            self._running.add_done_callback(lambda _: work())


class Ahead:
    def __init__(self, stores: SnapshotStores) -> None:
        self._stores = stores
        self._threads = ThreadPoolExecutor(AT_ONCE, "ahead")
        self._found: list[Unpacked] = []
        self._under_way = 0
        self._wanted = True
        self._quiet: asyncio.TimerHandle | None = None
        self._written = 0  # bytes of what is found, when it was last looked at

    def coming(self, ingest: Ingest, first: bytes) -> None:
        """A client begins to write `ingest`: unpack it meanwhile, if it looks like a layer."""
        likely = ingest.total >= LEAST_BYTES and not ingest.ref.startswith(OURS)
        if not (likely and self._wanted and looks_like_layer(first)):
            return
        if len(self._found) >= MOST:
            self._give_up()
        if self._under_way >= AT_ONCE or not self._wanted:
            return
        try:
            self._begin(ingest)
        except ResourceExhausted:
            self._drop_all()  # others need the room
        except (BarqueError, OSError) as error:  # unpacked when it is asked for, then
            log.debug("%s is not unpacked ahead: %s", ingest.ref, error)

    def _begin(self, ingest: Ingest) -> None:
        growth = followed(ingest)
        store = self._store()
        aside = store.aside()
        try:
            most = GROWTH * ingest.total
            room(aside.directory, most, ingest.ref)
            one = Unpacked(aside, growth, ingest.reader(), most)
        except BaseException:
            store.remove_aside(aside)
            raise
        self._found.append(one)
        self._under_way += 1
        self._listen()
        one.start(self._threads).add_done_callback(partial(self._ended, one))

    def _store(self) -> SnapshotStore:
        """Raises InvalidArgument where it is not there, or cannot take layers unpacked apart."""
        store = self._stores.open(SNAPSHOTTER)
        if APART not in store.capabilities:
            raise InvalidArgument(f"snapshotter {SNAPSHOTTER} has not {APART}")
        return store

    def _ended(self, one: Unpacked, done: asyncio.Task[tuple[str, int]]) -> None:
        os.close(one.fd)
        self._under_way -= 1
        if not done.cancelled() and (error := done.exception()) is not None:
            log.debug("not unpacked ahead: %s", error)
            self._drop(one)
        elif sum(other.growth.digest == one.growth.digest for other in self._found) > 1:
            self._drop(one)  # its bytes were written before
        self._listen()

    async def take(
        self, digest: str, target: Target, *, durable: bool = False
    ) -> tuple[str, int] | None:
        """Moves what blob `digest` has in it to `target`, as if it were applied there.

        The digest and size of its plain bytes; None where it is to be applied as ever.
        """
        if target.apart or not self._is_ours(target):
            return None
        self._wanted = True
        one = next((one for one in self._found if one.growth.digest == digest), None)
        if one is None:
            return None
        self._found.remove(one)
        self._listen()
        try:
            found = await one.whole()
            if found is None or not await in_thread(_moved, one.aside.directory, target):
                return None
            if durable:
                await in_thread(sync_filesystem, target.directory)
            return found
        finally:
            self._drop(one)

    def _is_ours(self, target: Target) -> bool:
        with suppress(BarqueError):
            return self._store().has_directory(target.directory)
        return False

    def _drop(self, one: Unpacked) -> None:
        """Its directory goes, once nobody writes there."""
        if one in self._found:
            self._found.remove(one)
        one.cancel()
        one.when_done(partial(self._store().remove_aside, one.aside))

    def _drop_all(self) -> bool:
        """Those that are whole. Whether there were any."""
        whole = [one for one in self._found if one.growth.digest]
        for one in whole:
            self._drop(one)
        return bool(whole)

    def _listen(self) -> None:
        """Something happened: who wants what is kept has time again."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._found:
            self._quiet = asyncio.get_running_loop().call_later(QUIET_S, self._look)

    def _look(self) -> None:
        written = sum(one.growth.size for one in self._found)
        if written == self._written:
            self._give_up()
        self._written = written  # another: a client is still at it
        self._listen()

    def _give_up(self) -> None:
        """Nobody asks for what is kept."""
        if self._drop_all():
            self._wanted = False

    async def close(self) -> None:
        """The server ends."""
        for one in list(self._found):
            self._drop(one)
            await one.whole()
        if self._quiet is not None:
            self._quiet.cancel()


def room(place: int | str, wanted: int, what: str) -> None:
    """Raises ResourceExhausted long before the disk is full: this is room for others to use."""
    check_room(place, wanted, what)
    found = os.statvfs(place)
    if found.f_bavail * found.f_frsize - wanted < found.f_blocks * found.f_frsize // KEPT_SHARE:
        raise ResourceExhausted(f"no room to unpack {what} ahead")


def _moved(source: str, target: Target) -> bool:
    """Whether the layer apart in `source` is in the empty directory of `target` now. Blocks."""
    with os.scandir(target.directory) as entries:
        if next(entries, None) is not None:
            return False
    unknown_parents.place(source, target.lowers)
    try:
        for name in os.listdir(source):
            os.rename(f"{source}/{name}", f"{target.directory}/{name}")
    except OSError as error:
        if error.errno == errno.EXDEV:  # the target is bounded by a quota: nothing goes there
            return False
        raise
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unknown_parents.copy_attributes(root, target.directory)
    finally:
        os.close(root)
    return True
