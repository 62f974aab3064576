"""What volume plugins say of their volumes, also of those that nobody here has made.

Every plugin of the machine is asked, all at once and each for a bounded time, as dockerd does:
what one made by itself is listed, and found by its name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from barque import errors
from barque.daemon.volumes.records import VolumeRecord
from barque.volume import plugin_places, plugins
from barque.volume.local import NAME

ASK_LIMIT_S = 10.0
NEVER = "0001-01-01T00:00:00Z"  # as Docker tells it of a plugin that does not say when

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A volume of a plugin; `facts` are members of the API's Volume."""

    record: VolumeRecord
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Listing:
    volumes: dict[str, Told] = field(default_factory=dict)
    drivers: set[str] = field(default_factory=set)  # that have told
    warnings: list[str] = field(default_factory=list)  # of those that have not


async def listed() -> Listing:
    """Every volume of every plugin; of a name that several have, the first plugin's."""
    found = Listing()
    names = await asyncio.to_thread(plugin_places.names)
    answers = await asyncio.gather(*(asyncio.to_thread(_volumes_of, name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, errors.BarqueError):
            found.warnings.append(f"error while listing volumes of plugin {name}: {answer}")
        elif answer is not None:
            found.drivers.add(name)
            for told in answer:
                found.volumes.setdefault(told.record.name, told)
    return found


async def find(name: str, driver: str = "") -> Told | None:
    """The volume that a plugin has by this name; asks `driver` alone when it is given."""
    names = [driver] if driver else await asyncio.to_thread(plugin_places.names)
    answers = await asyncio.gather(*(asyncio.to_thread(_volume_of, one, name) for one in names))
    return next((told for told in answers if told is not None), None)


async def has(record: VolumeRecord) -> bool:
    """Whether its plugin still has a volume that is known here; one that is away does."""
    try:
        plugin = await asyncio.to_thread(plugins.find, record.driver, timeout_s=ASK_LIMIT_S)
        await asyncio.to_thread(plugin.get, record.name)
    except (errors.NotFound, errors.Unavailable, errors.Unsupported):
        return True
    except errors.BarqueError:
        return False
    return True


async def facts(record: VolumeRecord) -> Mapping[str, Any]:
    """What its plugin says of a volume that is known here. Raises BarqueError."""
    plugin = await asyncio.to_thread(plugins.find, record.driver)
    said = await asyncio.to_thread(plugin.get, record.name)
    return _told(record.driver, said, await asyncio.to_thread(plugin.scope)).facts


def _volumes_of(driver: str) -> list[Told] | errors.BarqueError | None:
    """None of a plugin that keeps no volumes."""
    try:
        plugin = plugins.find(driver, timeout_s=ASK_LIMIT_S)
        said, scope = plugin.volumes(), plugin.scope()
    except errors.NotFound:
        return None
    except errors.BarqueError as error:
        return error
    return [_told(driver, volume, scope) for volume in said if NAME.match(volume["Name"])]


def _volume_of(driver: str, name: str) -> Told | None:
    try:
        plugin = plugins.find(driver, timeout_s=ASK_LIMIT_S)
        said = plugin.get(name)
        return _told(driver, said, plugin.scope()) if said.get("Name") == name else None
    except errors.BarqueError as error:
        log.debug("plugin %s says nothing of volume %s: %s", driver, name, error)
        return None


def _told(driver: str, said: Mapping[str, Any], scope: str) -> Told:
    facts = {"Mountpoint": str(said.get("Mountpoint") or ""), "Scope": scope}
    if isinstance(said.get("Status"), dict) and said["Status"]:
        facts["Status"] = said["Status"]
    created = str(said.get("CreatedAt") or "") or NEVER
    return Told(VolumeRecord(str(said.get("Name")), created, driver=driver), facts)
