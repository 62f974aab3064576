"""Work that blocks, off the event loop, and never outliving who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
    running = asyncio.get_running_loop().run_in_executor(workers, work)
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
        running.exception()  # its own failure does not matter any more
        raise
