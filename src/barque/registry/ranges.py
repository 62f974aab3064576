"""A part of a blob, out of an answer that may have another part, more bytes, or fewer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from barque import errors
from barque.registry.connection import Broken
from barque.registry.transport import Exchange


async def part(blob: str, answer: Exchange, offset: int, size: int) -> AsyncIterator[bytes]:
    """The bytes from `offset` to `size` of `blob` (what to call it), where a Range asked for them.

    The status is 200 or 206. Raises DataLoss for another range or more bytes, Broken for fewer.
    """
    skip = offset - _range_start(answer) if answer.head.status == 206 else offset
    if skip < 0:
        raise errors.DataLoss(f"{blob}: the registry sent another range")
    async for chunk in _exactly(blob, answer, skip, size - offset):
        yield chunk


def _range_start(answer: Exchange) -> int:
    match = re.match(r"bytes (\d{1,18})-", answer.head.headers.get("content-range", ""))
    if not match:
        raise errors.DataLoss(f"{answer.address.shown}: a partial answer without its range")
    return int(match[1])


async def _exactly(blob: str, answer: Exchange, skip: int, size: int) -> AsyncIterator[bytes]:
    """`size` bytes after the first `skip`. Raises DataLoss for more, Broken for fewer."""
    announced = answer.head.headers.get("content-length", "")
    if announced.isdigit() and int(announced) != skip + size:
        raise errors.DataLoss(
            f"{blob}: the registry has {int(announced) - skip} more bytes of it, "
            f"its descriptor says {size}"
        )
    left = size
    async for chunk in answer.chunks():
        if skip:
            skipped = min(skip, len(chunk))
            skip -= skipped
            chunk = chunk[skipped:]
        if len(chunk) > left:
            raise errors.DataLoss(f"{blob}: more bytes came than its descriptor says")
        left -= len(chunk)
        if chunk:
            yield chunk
    if left:
        raise Broken(f"{blob}: the connection ended {left} bytes too early")
