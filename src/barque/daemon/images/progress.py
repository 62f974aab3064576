"""What a client sees of a long operation on images: lines of JSON, in Docker's shapes.

    {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "4f4fb700ef54"}
    {"stream": "Loaded image: busybox:latest\\n"}
    {"errorDetail": {"message": "..."}, "error": "..."}

An operation that fails before its first line is an ordinary error with its status; later the error
is the last line of a response that began with 200. Clients look for it there alone after a load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from barque import errors

UPDATE_INTERVAL_S = 0.1
log = logging.getLogger(__name__)

MAX_PENDING_LINES = 256  # updates of a slow reader are skipped beyond, all other lines are kept


class Progress:
    """Where an operation writes its lines. Ids of layers are shortened as Docker does."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lines: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self.begun = False

    def line(self, value: dict[str, Any]) -> None:
        self.begun = True
        self._lines.append(msgspec.json.encode(value) + b"\r\n")
        self._changed.set()

    def status(self, text: str, id: str = "") -> None:
        self.line({"status": text, "id": id} if id else {"status": text})

    def stream(self, text: str) -> None:
        self.line({"stream": text})

    def error(self, message: str) -> None:
        self.line({"errorDetail": {"message": message}, "error": message})

    def layer(self, digest: str) -> LayerProgress:
        return LayerProgress(self, digest.partition(":")[2][:12], self._clock_s)

    def item(self, id: str) -> LayerProgress:
        """As `layer`, for what has no digest yet."""
        return LayerProgress(self, id, self._clock_s)

    @property
    def crowded(self) -> bool:
        return len(self._lines) > MAX_PENDING_LINES

    def take(self) -> bytes:
        """All lines that have come since the last call; b"" for none."""
        taken = b"".join(self._lines)
        self._lines.clear()
        self._changed.clear()
        return taken

    async def wait(self) -> None:
        await self._changed.wait()

    def end(self) -> None:
        self._changed.set()


class LayerProgress:
    """The lines of one layer: a word when its state changes, numbers ten times a second."""

    def __init__(self, progress: Progress, id: str, clock_s: Callable[[], float]) -> None:
        self._progress, self._id, self._clock_s = progress, id, clock_s
        self._last_s = 0.0

    def word(self, text: str) -> None:
        """`Pulling fs layer`, `Waiting`, `Download complete`, `Pull complete`, `Already exists`."""
        self._progress.line({"status": text, "progressDetail": {}, "id": self._id})

    def amount(self, text: str, current: int, total: int) -> None:
        """`Downloading` or `Extracting`, bytes so far and of all (0: not known)."""
        now_s = self._clock_s()
        if current < total and (now_s - self._last_s < UPDATE_INTERVAL_S or self._progress.crowded):
            return
        self._last_s = now_s
        detail = {"current": current, "total": total} if total else {"current": current}
        self._progress.line({"status": text, "progressDetail": detail, "id": self._id})


class ProgressStream:
    """The lines of a running operation as the body of a response; closing cancels it."""

    def __init__(self, task: asyncio.Task[None], progress: Progress) -> None:
        self._task, self._progress = task, progress

    def __aiter__(self) -> ProgressStream:
        return self

    async def __anext__(self) -> bytes:
        while True:
            lines = self._progress.take()
            if lines:
                return lines
            if self._task.done():
                raise StopAsyncIteration
            await self._progress.wait()

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def run(
    operation: Callable[[Progress], Awaitable[None]], *, raises: bool = True
) -> ProgressStream:
    """Starts `operation`; returns once it has written a line or ended well.

    Raises what it raises before its first line; a later failure becomes the last line, and without
    `raises` each one of ours does.
    """
    progress = Progress()
    task = asyncio.create_task(_guarded(operation, progress, raises))
    task.add_done_callback(lambda _: progress.end())
    try:
        while not progress.begun and not task.done():
            await progress.wait()
    except BaseException:
        task.cancel()
        raise
    if task.done() and not task.cancelled() and (error := task.exception()):
        raise error
    return ProgressStream(task, progress)


async def _guarded(
    operation: Callable[[Progress], Awaitable[None]], progress: Progress, raises: bool
) -> None:
    try:
        await operation(progress)
    except Exception as raised:
        error = _first(raised)
        ours = isinstance(error, errors.BarqueError)
        if not progress.begun and (raises or not ours):
            raise error from raised
        if ours:
            progress.error(str(error))
        elif not isinstance(error, ConnectionError):  # the client's: nobody is left to be told
            log.error("operation on images failed", exc_info=error)
            progress.error(f"internal error: {error!r}")


def _first(error: Exception) -> BaseException:
    """The failure to tell of several that came together: one of ours, if there is one."""
    if not isinstance(error, ExceptionGroup):
        return error
    leaves = _leaves(error)
    return next((leaf for leaf in leaves if isinstance(leaf, errors.BarqueError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
