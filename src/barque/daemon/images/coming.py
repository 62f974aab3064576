"""A layer is unpacked while it comes, by whatever brings its blob, where containerd can do that.

    bring(begun) ──bytes──> ingest ──followed──> snapshot      both end when the blob is committed

What was unpacked counts only once the blob was verified. Where it could not be unpacked so, the
blob is all there is: who wants it unpacked does that afterwards, and is told then what is wrong.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from barque import errors
from barque.daemon.images.store import Begun, Store

T = TypeVar("T")
Bring = Callable[[Begun | None], Awaitable[T]]


class Made(NamedTuple):
    """An active snapshot with one layer in it."""

    key: str
    diff_id: str


async def as_it_comes(
    store: Store, media_type: str, lease: str, bring: Bring[T], *, apart: bool
) -> tuple[T, Made | None]:
    """What `bring` returned, and the snapshot; None where it is not unpacked."""
    if not await store.applies_coming():
        return await bring(None), None
    refs: asyncio.Queue[str] = asyncio.Queue()
    bringing = asyncio.ensure_future(bring(refs.put_nowait))
    told = asyncio.ensure_future(refs.get())
    key = ""
    try:
        await asyncio.wait([bringing, told], return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            return await bringing, None
        key = f"extract-{secrets.token_hex(8)}"
        try:
            diff_id = await store.apply_coming(told.result(), media_type, key, lease, apart=apart)
        except errors.BarqueError:
            await _remove(store, key)
            return await bringing, None
        return await bringing, Made(key, diff_id)
    except BaseException:
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
        if key:
            await _remove(store, key)
        raise
    finally:
        told.cancel()


async def _remove(store: Store, key: str) -> None:
    """The lease ends the snapshot if we cannot."""
    with suppress(errors.BarqueError):
        await asyncio.shield(store.remove_snapshot(key))
