"""Networks made and removed: the record, what plugins keep of it, the machine's part."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from barque import errors
from barque.daemon.events import Events
from barque.daemon.moments import rfc3339_now
from barque.daemon.networks import configurations, plugins
from barque.daemon.networks.addressing import first_address, first_address6
from barque.daemon.networks.create import parse_create
from barque.daemon.networks.filters import PRUNE_KEYS, check_keys, prunable
from barque.daemon.networks.members import fold
from barque.daemon.networks.parts import Parts
from barque.daemon.networks.records import NetworkRecord
from barque.daemon.networks.upkeep import Upkeep
from barque.daemon.sandboxes.state import ID_BYTES
from barque.network.uplinks import vlan_of

log = logging.getLogger(__name__)

OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


class Making:
    def __init__(self, parts: Parts, upkeep: Upkeep, events: Events) -> None:
        self._parts = parts
        self._upkeep = upkeep
        self._events = events

    async def create(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """Make a network; returns its id and a warning or "". On failure nothing is left."""
        record, warning = parse_create(
            self._configured(body), network_id=secrets.token_hex(ID_BYTES), created=rfc3339_now()
        )
        await self._upkeep.wait_ready()
        async with self._parts.changing:
            if self._parts.registry.named(record.name) is not None:
                raise errors.AlreadyExists(f"network with name {record.name} already exists")
            record = await self._with_subnet(await self._with_parent(record))
            await self._refuse_taken(record.bridge)
            with self._parts.registry.closed(record):
                self._parts.registry.put(record)
                try:
                    index = await self._make(record)
                except BaseException:
                    await asyncio.shield(self._give_up_pool(record))
                    self._parts.registry.delete(record)
                    raise
                if record.is_remote:
                    self._parts.registry.put(replace(record, is_made=True))
                self._parts.sandboxes.bridges.set(record.id, index)
        self._events.publish(
            "network", "create", record.id, {"name": record.name, "type": record.driver}
        )
        return record.id, warning

    def _configured(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the configuration of the network that it names."""
        request = fold(body)
        name = configurations.named_by(request)
        if not name or request.get("configonly"):
            return body
        source = self._parts.registry.find(name)
        if source is None or not source.template:
            raise errors.NotFound(f'configuration network "{name}" does not exist')
        return configurations.applied(body, source.template)

    async def _refuse_taken(self, bridge: str) -> None:
        if bridge and await self._parts.worker(self._parts.host.wiring.link, bridge) is not None:
            raise errors.Forbidden(f"bridge device {bridge} already exists")

    async def _make(self, record: NetworkRecord) -> int:
        """Its part of the machine. The index of its bridge, 0 for none."""
        if record.template:
            return 0
        if record.is_remote:
            await plugins.create_network(record)
            return 0
        if record.leads is None:
            return await self._parts.worker(
                self._parts.host.add_network,
                record.segment,
                record.interface,
                record.mtu,
                record.interface6,
            )
        segment = record.segment if record.bridge else None
        return await self._parts.worker(
            self._parts.host.add_on_uplink, record.leads, segment, None, record.mtu
        )

    async def _with_parent(self, record: NetworkRecord) -> NetworkRecord:
        """Whether the parent is ours to make is decided, and stored, before it is made."""
        uplink = record.leads
        if uplink is None or not uplink.parent:
            return record
        other = next(
            (r for r in self._parts.registry if r.uplink.get("parent") == uplink.parent), None
        )
        if other is not None:
            raise errors.Forbidden(
                f"network {other.name} is already using parent interface {uplink.parent}"
            )
        if await self._parts.worker(self._parts.host.wiring.uplinks.parent_is_there, uplink.parent):
            return record
        if vlan_of(uplink.parent) is None and not uplink.parent.startswith("dm-"):
            raise errors.InvalidArgument(
                f"invalid subinterface vlan name {uplink.parent}, example formatting is eth0.10"
            )
        return replace(record, uplink=replace(uplink, parent_made=True).document())

    async def _with_pool(self, record: NetworkRecord) -> NetworkRecord:
        """The subnets and the gateways that a plugin gives."""
        driver, options, made = record.ipam_driver, record.ipam_options, record
        try:
            if record.subnet or record.subnet_chosen:
                pool = await plugins.request_pool(
                    driver,
                    options,
                    subnet=record.subnet,
                    ip_range=record.ip_range,
                    gateway=record.gateway,
                )
                made = replace(record, subnet=pool.subnet, gateway=pool.gateway, ipam_pool=pool.id)
            if record.subnet6 or record.subnet6_chosen:
                sixth = await plugins.request_pool(
                    driver,
                    options,
                    subnet=record.subnet6,
                    ip_range=record.ip_range6,
                    gateway=record.gateway6,
                    sixth=True,
                )
                made = replace(
                    made, subnet6=sixth.subnet, gateway6=sixth.gateway, ipam_pool6=sixth.id
                )
            self._refuse_overlap(made)
        except BaseException:
            await asyncio.shield(self._give_up_pool(made))
            raise
        return made

    def _refuse_overlap(self, record: NetworkRecord) -> None:
        if record.subnet and any(
            IPv4Network(record.subnet).overlaps(o) for o in self._parts.registry.subnets()
        ):
            raise errors.Forbidden(OVERLAP)
        if record.subnet6 and any(
            IPv6Network(record.subnet6).overlaps(o) for o in self._parts.registry.subnets6()
        ):
            raise errors.Forbidden(OVERLAP)

    async def _give_up_pool(self, record: NetworkRecord) -> None:
        pools = ((record.ipam_pool, record.gateway), (record.ipam_pool6, record.gateway6))
        for pool, gateway in [named for named in pools if named[0]]:
            try:
                await plugins.release_pool(record.ipam_driver, pool, gateway)
            except errors.BarqueError as error:
                log.warning("the pool of network %s is not released: %s", record.name, error)

    async def _with_subnet(self, record: NetworkRecord) -> NetworkRecord:
        if record.ipam_driver:
            return await self._with_pool(record)
        self._refuse_overlap(record)
        if record.subnet_chosen:
            subnet = await self._parts.worker(
                self._parts.host.choose_subnet, self._parts.registry.subnets()
            )
            record = replace(record, subnet=str(subnet), gateway=str(first_address(subnet)))
        if record.subnet6_chosen:
            subnet6 = await self._parts.worker(
                self._parts.host.choose_subnet6, self._parts.registry.subnets6()
            )
            record = replace(record, subnet6=str(subnet6), gateway6=str(first_address6(subnet6)))
        return record

    async def remove(self, reference: str) -> None:
        """Remove a network nobody is in. Raises NotFound, Forbidden with Docker's words."""
        await self._upkeep.settled()  # else what is being restored would be made again
        async with self._parts.changing:
            record = self._parts.registry.resolve(reference)
            if record.is_builtin:
                raise errors.Forbidden(
                    f"{record.name} is a pre-defined network and cannot be removed"
                )
            if record.template and any(r.config_from == record.name for r in self._parts.registry):
                raise errors.Forbidden(f'configuration network "{record.name}" is in use')
            members = self._parts.sandboxes.rows.members(record.id)
            if members:
                who = ", ".join(f'name:"{m.name}" id:"{m.container[:12]}"' for m in members)
                raise errors.Forbidden(
                    f"error while removing network: network {record.name} has active endpoints "
                    f"({who})"
                )
            with self._parts.registry.closed(record):
                await self._unmake(record)
                self._parts.registry.delete(record)
            self._parts.sandboxes.bridges.forget(record.id)
        self._events.publish(
            "network", "destroy", record.id, {"name": record.name, "type": record.driver}
        )

    async def _unmake(self, record: NetworkRecord) -> None:
        """Its part of the machine, and what plugins keep of it."""
        if record.template:
            return
        if record.is_remote:
            await self._delete_remote(record)
        elif record.leads is not None:
            await self._parts.worker(self._parts.host.delete_on_uplink, record.leads, record.bridge)
        else:
            await self._parts.worker(self._parts.host.delete_network, record.bridge)
        await self._give_up_pool(record)

    async def _delete_remote(self, record: NetworkRecord) -> None:
        """What its driver may not know, since a crash broke its creation off, is no failure."""
        try:
            await plugins.delete_network(record)
        except errors.BarqueError as error:
            if record.is_made:
                raise
            log.warning("network %s was never whole: %s", record.name, error)

    async def prune(
        self, filters: Mapping[str, Sequence[str]], *, before: str | None = None
    ) -> list[str]:
        """Remove the networks of users that nobody is in; returns their names."""
        check_keys(filters, PRUNE_KEYS)
        used = self._parts.sandboxes.rows.networks_in_use()
        removed: list[str] = []
        for record in list(iter(self._parts.registry)):
            if record.id in used or not prunable(record, filters, before=before):
                continue
            try:
                await self.remove(record.id)
            except (errors.Forbidden, errors.NotFound):  # came into use, or went, meanwhile
                continue
            removed.append(record.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed
