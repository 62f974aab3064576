"""A log that never holds its container back: written by a process of its own, from a bounded queue.

    process --pipe--> shim --frames over a pipe--> writer --> log file       (mode=non-blocking)
                           <--a byte a flush------

A disk that blocks blocks the writer only. What comes while the queue is full is left out by whole
lines, counted, and noted in the log. The writer ends when the shim's side of the pipe does, after
the last line: the shim's death loses nothing that it had taken.

A frame: kind (u8), time in nanoseconds or a count (u64), size (u32), all big-endian; then the data.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import os
import time

from barque.shim.ground import IGNORED_SIGNALS
from barque.shim.logger import fork_with_pipes
from barque.shim.loop import Loop, Pending
from barque.shim.streams import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from barque.shim.logs import OutputLog

READ_BYTES: Final = 1 << 18
STREAMS: Final = (1, 2)
FLUSH: Final = 0  # kinds; a stream's number is the kind of its output
ENDED: Final = 2  # added to a stream's number
LOST: Final = 5
HEAD_BYTES: Final = 13
TOO_FAST: Final = "they came faster than they could be written"


def frame(kind: int, number: int, data: bytes = b"") -> bytes:
    return b"".join((bytes((kind,)), number.to_bytes(8, "big"), len(data).to_bytes(4, "big"), data))


class BackgroundLog:
    """In the place of an `OutputLog`, which the writer has."""

    def __init__(
        self,
        loop: Loop,
        make: Callable[[], OutputLog],
        bound: int,
        warn: Callable[[str], None],
    ) -> None:
        """Raises OSError when the log cannot be opened, or there is no process to be had."""
        self._loop = loop
        self._make = make
        self._bound = bound
        self._warn = warn
        self._lost_lines = 0
        self._unfinished = dict.fromkeys(STREAMS, False)  # a line was begun and not ended
        self._skipping = dict.fromkeys(STREAMS, False)  # the rest of a line that is left out
        self._flushes: list[Pending] = []
        self._closing = False
        self._start()

    def _start(self) -> None:
        log = self._make()
        try:
            pid, (data_read, data_write, self._told, told_write) = fork_with_pipes(2)
            if pid == 0:
                _write_all(log, data_read, told_write)
        finally:
            log.close()
        os.close(data_read)
        os.close(told_write)
        self._writer = Writer(self._loop, data_write)
        os.set_blocking(self._told, False)
        try:
            self._loop.watch_owned(self._told, self._hear)
        except OSError:
            self._writer.abandon()
            raise

    def save(self) -> None:
        """Never now: the process that writes is a child of this one."""

    # output

    def write(self, stream: int, data: bytes) -> None:
        """Output of the process, as it came."""
        if self._skipping[stream]:
            rest = data.find(b"\n") + 1
            if not rest:
                return
            self._skipping[stream] = False
            self._lost_lines += 1
            data = data[rest:]
        if data and self._writer.queued + len(data) > self._bound:
            data = self._cut(stream, data)
        if data:
            self._tell_lost()
            self._unfinished[stream] = not data.endswith(b"\n")
            self._writer.write(frame(stream, time.time_ns(), data))

    def _cut(self, stream: int, data: bytes) -> bytes:
        """The queue is full: what is left of `data` is the end of the line that was begun."""
        kept = b""
        if self._unfinished[stream]:
            kept = data[: data.find(b"\n") + 1]
            data = data[len(kept) :]
        self._lost_lines += data.count(b"\n")
        self._skipping[stream] = bool(data) and not data.endswith(b"\n")
        if self._unfinished[stream] and not kept:
            kept = b"\n"
        return kept

    def _tell_lost(self) -> None:
        if self._lost_lines and not any(self._unfinished.values()):
            self._writer.write(frame(LOST, self._lost_lines))
            self._lost_lines = 0

    def end(self, stream: int) -> None:
        """Write the unfinished line, if there is one."""
        if self._skipping[stream]:
            self._skipping[stream] = False
            self._lost_lines += 1
        self._unfinished[stream] = False
        self._writer.write(frame(stream + ENDED, time.time_ns()))
        self._tell_lost()

    # the end

    def settled(self) -> Pending:
        """Done once all that was taken so far is written."""
        done = Pending()
        self._flushes.append(done)
        self._writer.write(frame(FLUSH, 0))
        return done

    def _hear(self, events: int) -> None:
        try:
            told = os.read(self._told, READ_BYTES)
        except BlockingIOError:
            return
        for _ in told:
            if self._flushes:
                self._flushes.pop(0).set()
        if not told:
            self._writer_died()

    def _writer_died(self) -> None:
        """Somebody killed it, for nothing of the log makes it end."""
        self._forget()
        try:
            self._start()
            self._warn("the process that writes a log was killed: lines of it are lost")
        except OSError as error:
            self._closing = True
            self._warn(f"the process that writes a log was killed, there is no other: {error}")

    def _forget(self) -> None:
        self._loop.unwatch(self._told)
        os.close(self._told)
        self._told = -1
        self._writer.abandon()
        while self._flushes:
            self._flushes.pop(0).set()

    def close(self) -> None:
        """What is queued is still written: the shim waits for that before it ends."""
        if self._closing:
            return
        self._closing = True
        self._loop.unwatch(self._told)
        os.close(self._told)
        while self._flushes:
            self._flushes.pop(0).set()
        self._writer.close()


def _write_all(log: OutputLog, data: int, told: int) -> None:
    """The writer's life. Never returns."""
    try:
        _signal.set_wakeup_fd(-1)
        for number in IGNORED_SIGNALS:
            _signal.signal(number, _signal.SIG_IGN)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # what packs is reaped by the kernel
        _close_others({data, told, log.fileno()})
        _serve(log, data, told)
    finally:
        os._exit(0)


def _close_others(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the directory that was just listed


def _serve(log: OutputLog, data: int, told: int) -> None:
    buffer = bytearray()
    while chunk := os.read(data, READ_BYTES):
        buffer += chunk
        at = 0
        while len(buffer) - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + int.from_bytes(buffer[at + 9 : at + 13], "big")
            if end > len(buffer):
                break
            number = int.from_bytes(buffer[at + 1 : at + 9], "big")
            _carry_out(log, buffer[at], number, bytes(buffer[at + HEAD_BYTES : end]), told)
            at = end
        del buffer[:at]


def _carry_out(log: OutputLog, kind: int, number: int, data: bytes, told: int) -> None:
    if kind in STREAMS:
        log.write(kind, data, number)
    elif kind == FLUSH:
        try:
            os.write(told, b"\0")
        except OSError:
            pass  # nobody waits any more
    elif kind == LOST:
        log.note(number, TOO_FAST)
    else:
        log.end(kind - ENDED, number)
