"""Sends each container's lines on, for as long as there are any.

    container -> shim -> json-file (the spool) -> Forwarder -> syslog, journald, gelf, fluentd

The container never waits for a receiver. A line is sent again when it is not known to have been
taken: at least once. What is not sent when its container is removed is given a moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from barque import errors
from barque.daemon import moments
from barque.daemon.containers import log_file, log_options
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.forwarding.drivers import OPTIONS, Driver, make
from barque.daemon.forwarding.fluentd import Fluentd
from barque.daemon.forwarding.message import Message, Piece, Source
from barque.daemon.forwarding.spool import Spool

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
FLUSH_LIMIT_S = 3.0
log = logging.getLogger(__name__)


class Forwarder:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def begin(self, container: Container) -> None:
        """It runs, or has run and may have lines left."""
        if container.record.host.log_config.type not in OPTIONS:
            return
        if container.id in self._tasks:
            self._again.add(container.id)
            return
        task = self._engine.spawn(self._run(container), lasting=True)
        self._tasks[container.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(container.id, None))

    async def end(self, container: Container) -> None:
        """It is being removed: wait a moment for what is left, then drop it."""
        task = self._tasks.get(container.id)
        if task is not None:
            await asyncio.wait([task], timeout=FLUSH_LIMIT_S)
            task.cancel()

    async def _run(self, container: Container) -> None:
        path = self._engine.paths.container_log(container.id, "json-file")
        driver = make_driver(container)
        with self._engine.log_watch.following(str(path.parent)) as watch:
            spool, lines_of = Spool(path), Lines()
            try:
                while True:
                    self._again.discard(container.id)
                    ended, changed = container.waiting("not-running"), watch.changed()
                    while lines := spool.read():
                        await _deliver(driver, lines_of.messages(lines), container.id)
                        spool.sent(len(lines))
                    if ended is None:
                        if container.id in self._again:
                            continue
                        return
                    either: list[asyncio.Future[Any]] = [ended, changed]
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if not ended.done():
                        ended.cancel()
            finally:
                spool.close()
                driver.wire.close()


async def check(container: Container) -> None:
    """Before a start: whether there is somebody to send to. Raises BarqueError."""
    if container.record.host.log_config.type not in OPTIONS:
        return
    driver = make_driver(container)
    if isinstance(driver, Fluentd) and driver.may_be_absent:
        return
    try:
        await driver.wire.open()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise errors.BarqueError(f"failed to initialize logging driver: {reason}") from error
    finally:
        driver.wire.close()


async def _deliver(driver: Driver, batch: list[Message], container: str) -> None:
    wait_s = FIRST_RETRY_S
    while batch:
        try:
            if not driver.wire.is_open:
                await driver.wire.open()
            await driver.send(batch)
            return
        except OSError as error:
            driver.wire.close()
            log.warning("logs of container %s wait to be sent: %s", container, error)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LAST_RETRY_S)


class Lines:
    """A log's lines as messages. The shim cuts long ones: only the last piece has a line's end."""

    def __init__(self) -> None:
        self._open: dict[str, Piece] = {}  # by stream: the piece before, of a line under way

    def messages(self, lines: bytes) -> list[Message]:
        return [self._message(line) for line in log_file.decode(lines)]

    def _message(self, line: log_file.Line) -> Message:
        text, last = line.log.removesuffix("\n"), line.log.endswith("\n")
        before = self._open.pop(line.stream, None)
        piece = None
        if before is not None:
            piece = Piece(before.id, before.ordinal + 1, last)
        elif not last:
            piece = Piece(secrets.token_hex(32), 1, last)
        if piece is not None and not last:
            self._open[line.stream] = piece
        return Message(text, line.stream, _time_ns(line.time), piece)


def _time_ns(text: str) -> int:
    with suppress(ValueError):
        return moments.parse_rfc3339(text)
    return 0


def make_driver(container: Container) -> Driver:
    config = container.record.host.log_config
    return make(config.type, config.config, source_of(container))


def source_of(container: Container) -> Source:
    record = container.record
    attributes = log_options.line_attributes(record)
    attributes.pop("tag", None)
    words: Iterable[str] = (record.path, *record.args)
    return Source(
        id=record.id,
        name=record.name,
        image_id=record.image,
        image_name=record.config.image,
        command=" ".join(words),
        created=record.created,
        tag=log_options.tag_of(record),
        hostname=os.uname().nodename,
        attributes=attributes,
    )
