"""The networks that every daemon has: bridge, host and none."""

from __future__ import annotations

import secrets

from barque.daemon.moments import rfc3339_now
from barque.daemon.networks.records import BRIDGE_OPTION, MTU_OPTION, NetworkRecord
from barque.daemon.networks.registry import Registry
from barque.daemon.networks.worker import Worker
from barque.daemon.sandboxes.state import ID_BYTES
from barque.network.host import DefaultBridge, Host
from barque.network.ipam import parse_network
from barque.network.options import NO_BRIDGE, NetworkOptions


class Builtin:
    def __init__(
        self, registry: Registry, host: Host, worker: Worker, options: NetworkOptions
    ) -> None:
        self._registry = registry
        self._host = host
        self._worker = worker
        self._options = options

    def put_plain(self) -> None:
        """The records of host and none."""
        for name, driver in (("host", "host"), ("none", "null")):
            if self._registry.named(name) is None:
                record = NetworkRecord(secrets.token_hex(ID_BYTES), name, driver, rfc3339_now())
                self._registry.put(record)

    async def default_bridge(self, *, settled: bool) -> DefaultBridge | None:
        """Where the default network is to be; None without one."""
        known = self._registry.named("bridge")
        if self._options.bridge == NO_BRIDGE:
            if known is not None:
                self._registry.delete(known)
            return None
        before = None
        if known is not None and known.interface is not None:
            before = DefaultBridge(known.bridge, known.interface, known.interface6)
        besides = [known.id] if known else []
        taken, taken6 = self._registry.subnets(besides), self._registry.subnets6(besides)
        return await self._worker(self._host.default_bridge, before, taken, taken6, settled=settled)

    def put_default(self, default: DefaultBridge) -> NetworkRecord:
        """The record of the default network as the options and the machine make it today."""
        options, known = self._options, self._registry.named("bridge")
        subnet, mtu = default.interface.network, options.mtu
        sixth = default.interface6
        record = NetworkRecord(
            id=known.id if known else secrets.token_hex(ID_BYTES),
            name="bridge",
            driver="bridge",
            created=known.created if known else rfc3339_now(),
            bridge=default.name,
            subnet=str(subnet),
            gateway=str(default.interface.ip),
            ip_range=str(parse_network(options.fixed_cidr)) if options.fixed_cidr else "",
            default_gateway=options.default_gateway,
            subnet_chosen=True,
            subnet6=str(sixth.network) if sixth else "",
            gateway6=str(sixth.ip) if sixth else "",
            default_gateway6=options.default_gateway_v6 if sixth else "",
            subnet6_chosen=sixth is not None,
            icc=options.icc,
            masquerade=options.ip_masq,
            mtu=mtu,
            host_ip=options.default_host_ip,
            options={
                BRIDGE_OPTION + "default_bridge": "true",
                BRIDGE_OPTION + "enable_icc": _word(options.icc),
                BRIDGE_OPTION + "enable_ip_masquerade": _word(options.ip_masq),
                BRIDGE_OPTION + "host_binding_ipv4": options.default_host_ip,
                BRIDGE_OPTION + "name": default.name,
                MTU_OPTION: str(mtu),
            },
        )
        record.space(), record.space6()  # refuses what does not fit before it is stored
        if record != known:
            self._registry.put(record)
        return record


def _word(value: bool) -> str:
    return "true" if value else "false"
