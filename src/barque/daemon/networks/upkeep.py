"""Networks of the machine kept as the records say: after a start, and when others change them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from barque import errors
from barque.daemon.networks.examination import Examination
from barque.daemon.networks.parts import Parts
from barque.daemon.networks.records import NetworkRecord
from barque.daemon.sandboxes.state import SandboxState
from barque.network.examination import Fault
from barque.network.uplinks import Uplink
from barque.network.watch import AddressWatch, RulesWatch

LOOK_S = 5.0  # between looks at what is lost without a word

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._examination = Examination(parts)
        self._loading: asyncio.Task[None] | None = None
        self._rules: RulesWatch | None = None
        self._addresses: AddressWatch | None = None
        self._looking: asyncio.Task[None] | None = None
        self._repairs: set[asyncio.Task[None]] = set()

    def start(self, kept: Sequence[SandboxState]) -> None:
        """Begin to make all of it as it was, for the sandboxes `kept`, and to watch it."""
        self._loading = asyncio.create_task(self._load(kept))
        self._watch_rules()
        self._watch_addresses()
        self._looking = self._begin(self._look())

    async def _load(self, states: Sequence[SandboxState]) -> None:
        for record in self._parts.registry:
            if record.leads is not None:
                await self._restore_uplink(record, record.leads)
            elif record.bridge and record.name != "bridge":
                index = await self._parts.worker(
                    self._parts.host.ensure_bridge,
                    record.bridge,
                    record.interface,
                    record.mtu,
                    record.interface6,
                )
                self._parts.sandboxes.bridges.set(record.id, index)
        for state in states:
            await self._parts.worker(self._parts.sandboxes.repair, state)
        published = [port for state in states for port in state.published]
        segments = [record.segment for record in self._parts.registry if record.bridge]
        await self._parts.worker(self._parts.host.load, segments, published)

    async def _restore_uplink(self, record: NetworkRecord, uplink: Uplink) -> None:
        """A parent that is not there (yet) harms only those who want to be on it."""
        try:
            index = await self._parts.worker(
                self._parts.host.restore_uplink, uplink, record.bridge, record.mtu
            )
        except (errors.BarqueError, OSError) as error:
            log.warning("network %s is not restored: %s", record.name, error)
            return
        if index:
            self._parts.sandboxes.bridges.set(record.id, index)

    def _watch_rules(self) -> None:
        """Load the rules again whenever somebody flushes them."""
        if not self._parts.options.firewall:
            return
        if self._parts.host.firewall.polls:
            return
        self._rules = RulesWatch(self._parts.host.firewall.table, self._parts.host.firewall.port)
        asyncio.get_running_loop().add_reader(self._rules.fileno(), self._rules_changed)

    def _rules_changed(self) -> None:
        if self._rules is None:
            return
        if self._rules.changed():
            self._begin(self._repair_rules())
        if self._rules.foreign:
            self._rules.foreign = False
            if self._parts.options.host_policy:
                self._begin(self._judge_again())

    async def _judge_again(self) -> None:
        try:
            await self._parts.worker(self._parts.host.firewall.forget_admitted)
        except Exception:
            log.exception("callers of published ports are not judged again")

    async def _look(self) -> None:
        """From time to time at what nobody tells of: settings, links, rules of iptables."""
        await self.settled()
        told: set[Fault] = set()
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                found = await self.examine(repair=True)
            except Exception:
                log.exception("networks cannot be looked at")
                continue
            _tell([fault for fault in found if fault not in told])
            told = {fault for fault in found if not fault.repaired}

    async def examine(self, *, repair: bool) -> list[Fault]:
        """What of networks is not as it should be."""
        await self.settled()
        return await self._examination.run(repair=repair)

    async def _repair_rules(self) -> None:
        try:
            if await self._parts.worker(self._parts.host.repair):
                log.warning("the firewall rules were flushed by another program: loaded again")
        except Exception:
            log.exception("the firewall rules are gone and cannot be loaded again")

    def _watch_addresses(self) -> None:
        """Make the bridges again that somebody deletes or takes the address of."""
        self._addresses = AddressWatch()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._addresses.fileno(), self._addresses_changed)

    def _addresses_changed(self) -> None:
        if self._addresses is None:
            return
        indexes, more = self._addresses.lost()
        harmed = [
            record
            for record in self._parts.registry
            if record.bridge
            and record.leads is None
            and (more or self._parts.sandboxes.bridges.get(record.id) in indexes)
        ]
        if harmed:
            self._begin(self._repair_bridges(harmed))

    async def _repair_bridges(self, records: Sequence[NetworkRecord]) -> None:
        await self.settled()
        for record in records:
            async with self._parts.changing:  # it may be we who are taking it away
                if self._parts.registry.get(record.id) is not None:
                    _tell(await self._examination.network(record, repair=True))

    async def wait_ready(self) -> None:
        """Until the rules are there; raises what kept them from loading."""
        if self._loading is None:
            raise errors.Unavailable("networks are not restored yet")
        await asyncio.shield(self._loading)

    async def settled(self) -> None:
        """Until the rules are loaded, or could not be: what is being loaded must not change."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    def _begin(self, repair: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(repair)
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)
        return task

    async def close(self) -> None:
        """Watch no more. Returns when no repair is under way."""
        loop = asyncio.get_running_loop()
        for watch in (self._rules, self._addresses):
            if watch is not None:
                loop.remove_reader(watch.fileno())
                watch.close()
        self._rules = self._addresses = None
        if self._looking is not None:
            self._looking.cancel()
        if self._loading is not None:
            await asyncio.gather(self._loading, *self._repairs, return_exceptions=True)


def _tell(faults: Sequence[Fault]) -> None:
    for fault in faults:
        outcome = "repaired" if fault.repaired else "not repaired"
        log.warning("%s %s: %s: %s", fault.check, fault.object, fault.problem, outcome)
