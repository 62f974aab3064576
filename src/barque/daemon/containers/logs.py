"""`GET /containers/{id}/logs`: what the shim has logged, in the form the client reads."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, suppress
from itertools import groupby
from operator import attrgetter
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote_plus

from barque import errors
from barque.daemon.containers import log_file, log_options, log_run
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.log_file import JsonFormat, Line, LogFormat, Reader
from barque.daemon.containers.log_local import LocalFormat
from barque.daemon.containers.log_watch import Follower
from barque.daemon.moments import parse_rfc3339

frame_header = struct.Struct(">BxxxI").pack
STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
JSON = JsonFormat()
FORMATS: dict[str, LogFormat] = {"json-file": JSON, "local": LocalFormat()}
"""The log drivers whose logs can be read."""


class Query(NamedTuple):
    """API: ContainerLogs. Times are nanoseconds since the epoch, 0 for none."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    """The last so many lines; -1 for all."""
    joined: bool = False
    """The client wants the bytes of each stream, in whatever frames: fewer are read sooner."""


def parse_time(text: str) -> int:
    """`1700000000`, `1700000000.000000001` or RFC 3339, in nanoseconds. Raises InvalidArgument."""
    if not text:
        return 0
    seconds, _, fraction = text.partition(".")
    negative = seconds.startswith("-")
    digits = seconds.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 12 and len(fraction) <= 20:
        if fraction and not (fraction.isascii() and fraction.isdigit()):
            raise errors.InvalidArgument(f"invalid time: {text!r}")
        total = int(digits) * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))
        return 0 if negative else total
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise errors.InvalidArgument(f"invalid time: {text[:100]!r}") from None


def parse_tail(text: str) -> int:
    """`all`, "" or a number; anything else is all, as Docker has it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


class Renderer:
    """Lines as the client reads them: raw for a terminal, framed otherwise."""

    def __init__(self, query: Query, terminal: bool, form: LogFormat = JSON) -> None:
        self._format = form
        self._query = query
        self._terminal = terminal
        self._timed = bool(query.since_ns or query.until_ns)
        self.finished = False
        """A line after `until` was seen: no later one can be wanted."""

    def render(self, lines: bytes) -> bytes:
        """Each line in a frame of its own, unless they may be joined: clients, testcontainers among
        them, count on it."""
        wanted = filter(self._wanted, self._format.decode(lines))
        if self._terminal:
            return self._payload(wanted)
        out: list[bytes] = []
        if self._query.joined:
            for stream, neighbours in groupby(wanted, attrgetter("stream")):
                payload = self._payload(neighbours)
                out += frame_header(STREAMS.get(stream, 1), len(payload)), payload
        else:
            errors_of_text = self._format.text_errors
            for line in wanted:
                payload = self._text(line).encode("utf-8", errors_of_text)
                out += frame_header(STREAMS.get(line.stream, 1), len(payload)), payload
        return b"".join(out)

    def _payload(self, lines: Iterable[Line]) -> bytes:
        return "".join(map(self._text, lines)).encode("utf-8", self._format.text_errors)

    def _wanted(self, line: Line) -> bool:
        query = self._query
        if not (query.stderr if line.stream == "stderr" else query.stdout):
            return False
        if not self._timed:
            return True
        with suppress(ValueError):
            at = parse_rfc3339(line.time)
            if query.until_ns and at > query.until_ns:
                self.finished = True
                return False
            return at >= query.since_ns
        return True

    def _text(self, line: Line) -> str:
        text = line.log
        if self._query.details:
            pairs = sorted(line.attrs.items())
            shown = ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs)
            text = f"{shown} {text}"
        if self._query.timestamps:
            text = f"{line.time} {text}"
        return text


def check(container: Container, query: Query) -> None:
    """Raises what can be told before the first byte is sent."""
    if not (query.stdout or query.stderr):
        raise errors.InvalidArgument("Bad parameters: you must choose at least one stream")
    if not log_options.readable(container.record):
        raise errors.Unsupported("configured logging driver does not support reading")


async def read(engine: Engine, container: Container, query: Query) -> AsyncIterator[bytes]:
    """The log so far and, to `follow`, what comes until the container ends."""
    driver = log_options.stored_as(container.record)
    path, form = str(engine.paths.container_log(container.id, driver)), FORMATS[driver]
    renderer = Renderer(query, container.record.config.tty, form)
    with ExitStack() as stack:
        directory = os.path.dirname(path)
        watch = stack.enter_context(engine.log_watch.following(directory)) if query.follow else None
        files = log_run.open_files(path)
        for file in files:
            stack.callback(file.close)
        first = log_file.seek_tail(files, query.tail, form) if query.tail >= 0 else 0
        reader: Reader | None = None
        for file in files[first:]:
            reader = form.reader(file)
            for lines in reader.remaining():
                if chunk := renderer.render(lines):
                    yield chunk
                if renderer.finished:
                    return
                await asyncio.sleep(0)
        if watch is None:
            return
        growing = Growing(path, reader, form)
        stack.callback(growing.close)
        async for lines in _follow(container, watch, growing):
            if chunk := renderer.render(lines):
                yield chunk
            if renderer.finished:
                return


async def _follow(container: Container, watch: Follower, growing: Growing) -> AsyncIterator[bytes]:
    """New lines until the process that runs now has ended and all that it wrote was read.

    As dockerd: who follows through restarts asks again when the container is told to have started.
    """
    pid = container.state.pid
    while True:
        ended = container.next_exit() if pid and container.state.pid == pid else None
        changed = watch.changed()
        for lines in growing.new_lines():
            yield lines
        if ended is None:
            return
        either: list[asyncio.Future[Any]] = [ended, changed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            ended.cancel()


class Growing:
    """The growing end of a log, across rotations."""

    def __init__(self, path: str, reader: Reader | None, form: LogFormat = JSON) -> None:
        self._format = form
        self._path = path
        self._reader = reader
        self._own: list[BinaryIO] = []

    def new_lines(self) -> Iterable[bytes]:
        while True:
            if self._reader is not None:
                yield from self._reader.remaining()
            successor = self._next_file()
            if successor is None:
                return
            if self._reader is not None:  # written between our last read and the rotation
                yield from self._reader.remaining()
            self._reader = self._format.reader(successor)

    def _next_file(self) -> BinaryIO | None:
        """The file that follows ours in time."""
        file = log_run.open_next(self._path, self._reader.file if self._reader else None)
        if file is not None:
            self._own.append(file)
        return file

    def close(self) -> None:
        for file in self._own:
            file.close()
