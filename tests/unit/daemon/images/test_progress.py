"""The lines a client reads, and what becomes of a failure before and after the first."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from barque import errors
from barque.daemon.images.progress import Progress, run


def lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


async def collected(operation: Any) -> list[dict[str, Any]]:
    return lines(b"".join([chunk async for chunk in await run(operation)]))


def test_lines_come_in_dockers_shapes() -> None:
    async def operation(progress: Progress) -> None:
        progress.status("Pulling from library/busybox", "latest")
        layer = progress.layer("sha256:" + "ab" * 32)
        layer.word("Pulling fs layer")
        await asyncio.sleep(0)
        layer.amount("Downloading", 5, 5)
        progress.stream("Loaded image: a\n")

    assert asyncio.run(collected(operation)) == [
        {"status": "Pulling from library/busybox", "id": "latest"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "abababababab"},
        {
            "status": "Downloading",
            "progressDetail": {"current": 5, "total": 5},
            "id": "abababababab",
        },
        {"stream": "Loaded image: a\n"},
    ]


def test_a_failure_before_the_first_line_is_raised() -> None:
    async def operation(progress: Progress) -> None:
        await asyncio.sleep(0)
        raise errors.NotFound("no")

    with pytest.raises(errors.NotFound):
        asyncio.run(collected(operation))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_later_failure_is_the_last_line(grouped: bool) -> None:
    async def operation(progress: Progress) -> None:
        progress.status("a")
        if grouped:
            raise ExceptionGroup("x", [OSError("dull"), errors.DataLoss("bad bytes")])
        raise errors.DataLoss("bad bytes")

    *_, last = asyncio.run(collected(operation))
    assert last == {"errorDetail": {"message": "bad bytes"}, "error": "bad bytes"}


def test_an_operation_without_lines_is_an_empty_answer() -> None:
    async def operation(progress: Progress) -> None:
        await asyncio.sleep(0)

    assert asyncio.run(collected(operation)) == []


def test_numbers_are_thinned_out_but_the_last_is_told() -> None:
    progress = Progress(clock_s=lambda: 1000.0)
    layer = progress.layer("sha256:" + "ab" * 32)
    for done in range(1, 101):
        layer.amount("Downloading", done, 100)
    told = [line["progressDetail"]["current"] for line in lines(progress.take())]
    assert told == [1, 100]


def test_closing_the_stream_cancels_the_operation() -> None:
    ended: list[str] = []

    async def operation(progress: Progress) -> None:
        progress.status("a")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("undone")

    async def leave() -> None:
        stream = await run(operation)
        assert lines(await anext(stream)) == [{"status": "a"}]
        await stream.aclose()
        assert ended == ["undone"]

    asyncio.run(leave())
