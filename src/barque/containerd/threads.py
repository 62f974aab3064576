"""Work that blocks, off the event loop, and never outliving who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
SMALL_BYTES = 32 << 10  # hashed sooner than handed over
_hashers = ThreadPoolExecutor(4, "hash")


async def in_thread(
    work: Callable[Arguments, Result], /, *arguments: Arguments.args, **keywords: Arguments.kwargs
) -> Result:
    """As asyncio.to_thread, but a cancelled caller first waits for the thread.

    The thread uses descriptors that the caller closes: their numbers must not mean another file
    while it runs.
    """
    return await finished(None, partial(work, *arguments, **keywords))


async def finished(
    workers: Executor | None,
    work: Callable[[], Result],
    on_cancel: Callable[[], None] | None = None,
) -> Result:
    """`work` done on `workers` (None: the loop's own). Cancelled, it waits all the same.

    `on_cancel` is called at once then, to tell the work to hurry.
    """
    return await joined(asyncio.get_running_loop().run_in_executor(workers, work), on_cancel)


async def joined(
    running: asyncio.Future[Result], on_cancel: Callable[[], None] | None = None
) -> Result:
    """The result of `running`, which is not cancelled with us: cancelled, we wait all the same."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()  # its own failure does not matter any more
        raise


def hashing(digest: Any, data: bytes) -> Future[None]:
    """`digest.update(data)` on another core, while the caller writes the same bytes.

    The next update of that digest must wait for the result.
    """
    if len(data) > SMALL_BYTES:
        return _hashers.submit(digest.update, data)
    done: Future[None] = Future()
    digest.update(data)
    done.set_result(None)
    return done
