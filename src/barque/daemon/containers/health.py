"""Health checks: a command run in the container now and then, and what its results mean.

    starting --success--> healthy --failures in a row--> unhealthy --success--> healthy

API: HealthConfig, Health, HealthcheckResult. Failures within the start period do not count, and
until the first success the start interval is used; a success ends the start period.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import suppress
from typing import NamedTuple

from barque import errors
from barque.daemon import moments
from barque.daemon.containers import execs
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import ExecConfig, Health
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.state import HealthResult, HealthState, Status
from barque.daemon.containers.stdio import Stdio, Wanted

DEFAULT_INTERVAL_S = 30.0
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_START_INTERVAL_S = 5.0
DEFAULT_RETRIES = 3
MAX_OUTPUT_BYTES = 4096
MAX_RESULTS = 5
SIGKILL = 9
DEFAULT_SHELL = ("/bin/sh", "-c")
log = logging.getLogger(__name__)


class Result(NamedTuple):
    code: int
    output: str


def command(container: Container) -> list[str] | None:
    """The probe, None where there is none."""
    config = container.record.config
    test = config.healthcheck.test if config.healthcheck else []
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL":
        return [*(config.shell or DEFAULT_SHELL), " ".join(test[1:])]
    return None


def begin(engine: Engine, container: Container) -> None:
    """The container has started, or was found running: watch its health until `end`."""
    end(container)
    if command(container) is None:
        container.state.health = None
        return
    container.health = engine.spawn(_watch(engine, container), lasting=True)


def end(container: Container) -> None:
    if container.health is not None:
        container.health.cancel()
        container.health = None


def fresh(container: Container) -> HealthState | None:
    """The state a start begins with."""
    return HealthState() if command(container) is not None else None


def seconds(value_ns: int, default_s: float) -> float:
    return value_ns / 1e9 if value_ns > 0 else default_s


async def _watch(engine: Engine, container: Container) -> None:
    settings = container.record.config.healthcheck or Health()
    if container.state.health is None:
        container.state.health = HealthState()
    while True:
        await asyncio.sleep(_pause_s(engine, container, settings))
        if container.state.status is not Status.RUNNING:
            continue
        started = engine.now()
        result = await probe(engine, container, seconds(settings.timeout, DEFAULT_TIMEOUT_S))
        _take(engine, container, settings, started, result)
        if result.code and is_unhealthy(container) and action(container):
            # The end of the container ends this task, but not what has been begun.
            await asyncio.shield(engine.spawn(engine.treat(container), lasting=True))


def is_unhealthy(container: Container) -> bool:
    return container.state.health is not None and container.state.health.status == "unhealthy"


def action(container: Container) -> str:
    """What is to be done once it is unhealthy; "" for nothing."""
    asked = container.record.host.health_on_failure
    return "" if asked == "none" else asked


def _pause_s(engine: Engine, container: Container, settings: Health) -> float:
    if in_start_period(engine, container, settings):
        return seconds(settings.start_interval, DEFAULT_START_INTERVAL_S)
    return seconds(settings.interval, DEFAULT_INTERVAL_S)


def in_start_period(engine: Engine, container: Container, settings: Health) -> bool:
    health = container.state.health
    age_ns = engine.clock_ns() - moments.parse_rfc3339(container.state.started_at)
    return health is not None and health.status == "starting" and age_ns < settings.start_period


async def probe(engine: Engine, container: Container, timeout_s: float) -> Result:
    """Run the command once. -1 when it did not end in time or could not run."""
    config = ExecConfig(cmd=command(container) or [], attach_stdout=True, attach_stderr=True)
    try:
        process = execs.create(engine, container, config)
        stdio = await execs.start(engine, process, Wanted())
    except errors.BarqueError as error:
        engine.measures.health_checks_failed += 1
        return Result(-1, str(error)[:MAX_OUTPUT_BYTES])
    assert stdio is not None
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            await _collect(stdio, output)
            code = await asyncio.shield(process.ended)
    except TimeoutError:
        with suppress(errors.BarqueError):
            await engine.supervisor.kill(container.id, SIGKILL, process.id)
        limit = moments.duration_text(round(timeout_s * moments.NS))
        return Result(-1, f"Health check exceeded timeout ({limit})")
    finally:
        stdio.close()
    return Result(code, output.decode("utf-8", "replace"))


async def _collect(stdio: Stdio, output: bytearray) -> None:
    """What it writes, both streams, up to a bound; the rest is read and dropped."""
    pending = b""
    while data := await stdio.read():
        pending += data
        while len(pending) >= 8:
            (length,) = struct.unpack_from(">4xI", pending)
            if len(pending) < 8 + length:
                break
            room = MAX_OUTPUT_BYTES - len(output)
            output += pending[8 : 8 + length][: max(0, room)]
            pending = pending[8 + length :]


def _take(
    engine: Engine, container: Container, settings: Health, started: str, result: Result
) -> None:
    health = container.state.health
    if health is None or not container.state.running:
        return
    before = health.status
    entry = HealthResult(
        start=started, end=engine.now(), exit_code=result.code, output=result.output
    )
    engine.measures.health_checks += 1
    health.log = [*health.log, entry][-MAX_RESULTS:]
    if result.code == 0:
        health.status, health.failing_streak = "healthy", 0
    elif not in_start_period(engine, container, settings):
        health.failing_streak += 1
        if health.failing_streak >= (settings.retries or DEFAULT_RETRIES):
            health.status = "unhealthy"
    engine.catalogue.save_state(container)
    if health.status != before:
        done = {"healthOnFailure": action(container)} if is_unhealthy(container) else {}
        told = {name: value for name, value in done.items() if value}
        engine.publish(container, f"health_status: {health.status}", **told)
