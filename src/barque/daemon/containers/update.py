"""Changing limits and restart policy of a container that exists; removing all that have ended."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon.containers import listing, remove, validate, validate_resources
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import (
    HostConfig,
    Resources,
    RestartPolicy,
    docker_name,
    parse,
)
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.listing import Filters
from barque.daemon.containers.logs import parse_time
from barque.daemon.containers.spec_resources import limits
from barque.daemon.containers.state import Status
from barque.daemon.containers.written import written_bytes
from barque.daemon.moments import parse_rfc3339

TRIES = 3
DEVICE_LISTS = (
    "blkio_weight_device",
    "blkio_device_read_bps",
    "blkio_device_write_bps",
    "blkio_device_read_iops",
    "blkio_device_write_iops",
)
PRUNE_FILTERS = frozenset({"until", "label", "label!"})


async def update(engine: Engine, container: Container, body: Mapping[str, Any]) -> list[str]:
    """Zero means: as it was (API: ContainerUpdate). The record changes once the kernel has.

    One that ends meanwhile is changed as one that does not run.
    """
    for _ in range(TRIES):
        pid = container.state.pid
        try:
            return await _update(engine, container, body)
        except (errors.InvalidArgument, errors.Conflict):
            raise
        except errors.BarqueError as error:
            if not await container.has_ended(pid):
                raise
            failure = error
    raise failure


async def _update(engine: Engine, container: Container, body: Mapping[str, Any]) -> list[str]:
    asked = parse(Resources, body)
    folded = {key.lower(): value for key, value in body.items()}
    policy, action = folded.get("restartpolicy"), folded.get("healthonfailure")
    async with container.lock:
        container.refuse_when_gone()
        host = copy.deepcopy(container.record.host)
        validate_resources.check_least_memory(asked)
        _check_conflicts(container, asked)
        lifted = _devices(host, asked, body)
        changed = _merge(host, asked) or bool(lifted)
        warnings = validate_resources.check_resources(host, engine.machine)
        if isinstance(policy, Mapping) and policy:
            chosen = parse(RestartPolicy, policy)
            if chosen.name:
                validate.check_restart_policy(chosen)
                if host.auto_remove and chosen.name != "no":
                    raise errors.InvalidArgument(
                        "Restart policy cannot be updated because AutoRemove is enabled for the "
                        "container"
                    )
                host.restart_policy = chosen
        if action:
            host.health_on_failure = parse(
                HostConfig, {"HealthOnFailure": action}
            ).health_on_failure
            validate.check_health_action(action, container.record.config.healthcheck)
        if changed and container.state.running:
            await engine.supervisor.update(container.id, limits(_with(host, lifted)))
        before, container.record.host = container.record.host, host
        try:
            engine.catalogue.save_record(container)
        except BaseException:
            container.record.host = before
            raise
    engine.publish(container, "update")
    return warnings


def _devices(host: Resources, asked: Resources, body: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Put the named lists of devices into `host`; the entries that lift a limit which has gone.

    API 1.55: a list that is not named stays, an empty one takes the limits away.
    """
    given = {key.lower() for key, value in body.items() if value is not None}
    lifted: dict[str, list[Any]] = {}
    for name in DEVICE_LISTS:
        if docker_name(name).lower() not in given:
            continue
        before, now = getattr(host, name), getattr(asked, name)
        kept = {device.path for device in now}
        gone = [type(device)(path=device.path) for device in before if device.path not in kept]
        if before != now:
            lifted[name] = gone
        setattr(host, name, now)
    return lifted


def _with(host: HostConfig, lifted: Mapping[str, list[Any]]) -> HostConfig:
    """`host` with the entries that lift what has gone: no limit, written as zero."""
    whole = copy.copy(host)
    for name, gone in lifted.items():
        setattr(whole, name, [*getattr(host, name), *gone])
    return whole


def _merge(host: Resources, asked: Resources) -> bool:
    """Put what was asked for into `host`; whether any limit changed."""
    changed = False
    for field in msgspec.structs.fields(Resources):
        value = getattr(asked, field.name)
        if field.name == "pids_limit" and value and value < 0:
            continue
        if value and value != getattr(host, field.name):
            setattr(host, field.name, value)
            changed = True
    if asked.pids_limit is not None and asked.pids_limit <= 0 and host.pids_limit != 0:
        host.pids_limit, changed = 0, True  # the only limit that a zero takes away
    return changed


def _check_conflicts(container: Container, asked: Resources) -> None:
    """Two ways to say one limit: the one that a container has stays the one. Raises Conflict."""
    host = container.record.host
    text = ""
    for now, then, what, already in (
        (asked.cpu_period, host.nano_cpus, "CPU Period", "NanoCPUs"),
        (asked.cpu_quota, host.nano_cpus, "CPU Quota", "NanoCPUs"),
        (asked.nano_cpus, host.cpu_period, "Nano CPUs", "CPU Period"),
        (asked.nano_cpus, host.cpu_quota, "Nano CPUs", "CPU Quota"),
    ):
        if now > 0 and then > 0:
            text = (
                f"Conflicting options: {what} cannot be updated as {already} has already been set"
            )
    if asked.memory and asked.memory > host.memory_swap and not asked.memory_swap:
        text = (
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    if text:
        raise errors.Conflict(f"Cannot update container {container.id}: {text}")


async def prune(engine: Engine, filters: Filters) -> tuple[list[str], int]:
    """Remove every container that does not run; the ids of those that are gone, the bytes freed."""
    for name in filters:
        if name not in PRUNE_FILTERS:
            raise errors.InvalidArgument(f"invalid filter '{name}'")
    until = min((parse_time(text) for text in filters.get("until", ())), default=0)
    labels = {"label": filters["label"]} if filters.get("label") else {}
    gone: list[str] = []
    freed = 0
    for container in await listing.select(engine, everything=True, filters=labels):
        if container.state.status not in {Status.CREATED, Status.EXITED}:
            continue
        if until and parse_rfc3339(container.record.created) >= until:
            continue
        if any(_has(container, value) for value in filters.get("label!", ())):
            continue
        try:
            size = await written_bytes(engine, container)
            await remove.remove(engine, container, force=False, volumes=False)
        except (errors.Conflict, errors.NotFound):
            continue  # started or removed meanwhile
        gone.append(container.id)
        freed += size
    engine.events.publish("container", "prune", "", {"reclaimed": str(freed)})
    return gone, freed


def _has(container: Container, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    found = container.record.config.labels.get(name)
    return found is not None and (not equals or found == value)
