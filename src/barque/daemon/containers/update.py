"""Changing limits and restart policy of a container that exists; removing all that have ended."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon.containers import listing, remove, validate
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import Resources, RestartPolicy, parse
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.listing import Filters
from barque.daemon.containers.logs import parse_time
from barque.daemon.containers.spec_resources import limits
from barque.daemon.containers.state import Status
from barque.daemon.moments import parse_rfc3339

TRIES = 3
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
    policy = {key.lower(): value for key, value in body.items()}.get("restartpolicy")
    async with container.lock:
        container.refuse_when_gone()
        host = copy.deepcopy(container.record.host)
        changed = _merge(host, asked)
        warnings = validate.check_resources(host, engine.machine)
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
        if changed and container.state.running:
            await engine.supervisor.update(container.id, limits(host))
        before, container.record.host = container.record.host, host
        try:
            engine.catalogue.save_record(container)
        except BaseException:
            container.record.host = before
            raise
    engine.publish(container, "update")
    return warnings


def _merge(host: Resources, asked: Resources) -> bool:
    """Put what was asked for into `host`; whether any limit changed."""
    changed = False
    for field in msgspec.structs.fields(Resources):
        value = getattr(asked, field.name)
        if value and value != getattr(host, field.name):
            setattr(host, field.name, value)
            changed = True
    if asked.memory and not asked.memory_swap and host.memory_swap > 0:
        host.memory_swap = max(host.memory_swap, 2 * asked.memory)
    if asked.nano_cpus:
        host.cpu_period = host.cpu_quota = 0
    elif asked.cpu_period or asked.cpu_quota:
        host.nano_cpus = 0
    return changed


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
            size = await engine.supervisor.snapshot_size(container.id)
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
