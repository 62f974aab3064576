"""Networks looked at whole: rules, bridges, links of containers, forwarding; and put right.

For `barque doctor`, and from time to time for what nobody tells of when it changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from barque import errors
from barque.daemon.networks.parts import Parts
from barque.daemon.networks.records import NetworkRecord
from barque.daemon.sandboxes.state import SandboxState
from barque.network import examination
from barque.network.examination import Bridge, Fault

log = logging.getLogger(__name__)


class Examination:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._failed: dict[str, str] = {}

    async def run(self, *, repair: bool) -> list[Fault]:
        """All that is wrong; with `repair` what could be put right is, and says so."""
        found = await self.rules(repair=repair)
        for record in list(self._parts.registry):
            async with self._parts.changing:
                if record.bridge and self._parts.registry.get(record.id) is not None:
                    found += await self.network(record, repair=repair)
        return found + await self._forwarding(repair=repair)

    async def rules(self, *, repair: bool) -> list[Fault]:
        missing = await self._parts.worker(self._parts.host.firewall.missing)
        done = bool(missing) and repair and await self._did("firewall", self._parts.host.repair)
        return [Fault("firewall", part, "it is gone", done) for part in missing]

    async def network(self, record: NetworkRecord, *, repair: bool) -> list[Fault]:
        """One network's bridge, and the links of containers that are its ports."""
        problems = await self._parts.worker(self._problems, record)
        harmed = await self._parts.worker(self._link_problems, record, self._links(record))
        staying = set(self._links(record))  # one that left meanwhile had no fault
        links = [(name, problem) for name, problem in harmed if name in staying]
        done = False
        if (problems or links) and repair:
            states = self._parts.sandboxes.states_in(record.id)
            done = await self._did(record.name, lambda: self._mend(record, states))
        found = [Fault("bridge", record.bridge, problem, done) for problem in problems]
        gone = {name for name, problem in links if problem == "it is gone"}  # with its container
        return found + [
            Fault("link", name, problem, done and name not in gone) for name, problem in links
        ]

    def _links(self, record: NetworkRecord) -> list[str]:
        """The host's ends of what is to be a port of its bridge now."""
        return [
            endpoint.host_link
            for state in self._parts.sandboxes.states_in(record.id)
            for endpoint in state.endpoints
            if endpoint.network == record.id and endpoint.host_link and endpoint.whole
        ]

    def _problems(self, record: NetworkRecord) -> list[str]:
        addresses = [a for a in (record.interface, record.interface6) if a is not None]
        found = examination.bridge_faults(self._parts.host.wiring, Bridge(record.bridge, addresses))
        if record.leads is not None and record.leads.link:
            index = self._parts.sandboxes.bridges.get(record.id)
            fault = examination.link_fault(self._parts.host.wiring, record.leads.link, index)
            found += [f"interface {record.leads.link} of its uplink: {fault}"] if fault else []
        return found

    def _link_problems(self, record: NetworkRecord, links: Sequence[str]) -> list[tuple[str, str]]:
        index = self._parts.sandboxes.bridges.get(record.id)
        wiring = self._parts.host.wiring
        found = ((name, examination.link_fault(wiring, name, index)) for name in links)
        return [(name, problem) for name, problem in found if problem]

    def _mend(self, record: NetworkRecord, states: Sequence[SandboxState]) -> None:
        """In the worker thread."""
        if record.leads is not None:
            index = self._parts.host.restore_uplink(record.leads, record.bridge, record.mtu)
        else:
            index = self._parts.host.repair_bridge(
                record.bridge, record.interface, record.mtu, record.interface6
            )
        if index:
            self._parts.sandboxes.bridges.set(record.id, index)
            if record.name == "bridge":
                self._parts.host.pool.bridge = index
        for state in [state for state in states if state.settled]:
            self._parts.sandboxes.repair(state)

    async def _forwarding(self, *, repair: bool) -> list[Fault]:
        if not self._parts.options.ip_forward or not self._parts.host.firewall.loaded:
            return []
        families = ["ipv4", "ipv6"] if any(r.subnet6 for r in self._parts.registry) else ["ipv4"]
        off = await self._parts.worker(examination.forwarding_faults, families)
        done = bool(off) and repair and await self._did("forwarding", self._parts.host.forward)
        return [
            Fault("forwarding", family, "this host forwards no packets of it", done)
            for family in off
        ]

    async def _did(self, what: str, work: Callable[[], object]) -> bool:
        try:
            await self._parts.worker(work)
        except (errors.BarqueError, OSError) as error:
            if self._failed.get(what) != str(error):  # said once
                log.warning("%s is not repaired: %s", what, error)
            self._failed[what] = str(error)
            return False
        self._failed.pop(what, None)
        return True
