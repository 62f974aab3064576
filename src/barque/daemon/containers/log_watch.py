"""Tells followers of logs that something in a directory has changed.

One inotify instance serves all: a user may have 128 of them, but many thousand watches.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from barque.linux import inotify

WATCHED = (
    inotify.IN_MODIFY
    | inotify.IN_CREATE
    | inotify.IN_MOVED_TO
    | inotify.IN_MOVED_FROM
    | inotify.IN_ONLYDIR
)
_EVENT = struct.Struct("iIII")
READ_BYTES = 64 << 10


class Follower:
    """One who waits for changes; `changed` is done at the next one from its call on."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def changed(self) -> asyncio.Future[None]:
        if self._future is None or self._future.done():
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class LogWatch:
    def __init__(self) -> None:
        self._fd = -1
        self._followers: dict[int, set[Follower]] = {}

    @contextmanager
    def following(self, directory: str) -> Iterator[Follower]:
        """Watch `directory` as long as the block runs. It is made if it is not there yet."""
        self._open()
        os.makedirs(directory, mode=0o710, exist_ok=True)
        watch = inotify.inotify_add_watch(self._fd, directory, WATCHED)
        follower = Follower()
        self._followers.setdefault(watch, set()).add(follower)
        try:
            yield follower
        finally:
            self._leave(watch, follower)

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = inotify.inotify_init1()
            asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _leave(self, watch: int, follower: Follower) -> None:
        followers = self._followers.get(watch, set())
        followers.discard(follower)
        if not followers:
            self._followers.pop(watch, None)
            with suppress(OSError):  # the directory is gone, and the watch with it
                inotify.inotify_rm_watch(self._fd, watch)
        if not self._followers:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        woken: set[int] = set()
        while data:
            watch, _, _, length = _EVENT.unpack_from(data)
            woken.add(watch)
            data = data[_EVENT.size + length :]
        for watch in self._followers if -1 in woken else woken:  # -1: the queue overflowed
            for follower in self._followers.get(watch, ()):
                follower.wake()
