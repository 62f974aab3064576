"""What the daemon stores of networks and of containers' places in them, and its API documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Any

from barque.daemon.answers import subnet_status
from barque.network.firewall.rules import ISOLATED, NAT, Published, Segment
from barque.network.ipam import AddressSpace, AddressSpace6
from barque.network.uplinks import Uplink

BRIDGE_OPTION = "com.docker.network.bridge."
MTU_OPTION = "com.docker.network.driver.mtu"
SHORT_ID_LENGTH = 12
BUILTIN_NAMES = frozenset({"bridge", "host", "none"})


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network as created. `bridge` and `subnet` are empty for host and none."""

    id: str
    name: str
    driver: str  # bridge, host, null
    created: str  # RFC 3339
    bridge: str = ""
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    default_gateway: str = ""  # of containers, when it is not the bridge's own address
    subnet_chosen: bool = False  # by us: static addresses are then refused, as Docker does
    internal: bool = False
    attachable: bool = False
    icc: bool = True
    masquerade: bool = True
    mtu: int = 0
    host_ip: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    subnet6: str = ""  # empty: a network without IPv6
    gateway6: str = ""
    ip_range6: str = ""
    auxiliary6: Mapping[str, str] = field(default_factory=dict)
    default_gateway6: str = ""
    subnet6_chosen: bool = False
    uplink: Mapping[str, Any] = field(default_factory=dict)  # of an Uplink; {} for a plain bridge
    is_remote: bool = False  # its driver is a plugin
    is_made: bool = True  # False while a plugin is being asked to make it
    ipam_driver: str = ""  # the plugin that keeps its addresses; "" when we do
    ipam_options: Mapping[str, str] = field(default_factory=dict)
    ipam_pool: str = ""  # the plugin's own name of the pool
    mode: str = NAT  # gateway_mode_ipv4, gateway_mode_ipv6: see network/rules.py
    mode6: str = NAT
    ipam_pool6: str = ""
    inhibit_ipv4: bool = False  # the host has no address of its own on the bridge
    prefix: str = "eth"  # of its interfaces' names in containers
    source: str = ""  # of packets that leave it, instead of the outer interface's address
    source6: str = ""
    trusted: str = ""  # the host's interfaces that reach its published ports straight
    config_from: str = ""  # the name of the configuration that it was made of
    template: Mapping[str, Any] = field(default_factory=dict)  # of one that is a configuration

    def __hash__(self) -> int:
        return hash(self.id)

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> NetworkRecord:
        return cls(**json.loads(text))

    @property
    def has_names(self) -> bool:
        """Whether containers in it are found by their names."""
        return self.has_addresses and not self.is_builtin

    @property
    def has_addresses(self) -> bool:
        """Whether its containers get an interface."""
        return bool(self.subnet or self.subnet6)

    @property
    def publishes(self) -> bool:
        """Whether its containers' ports can be published on the host."""
        return self.driver == "bridge"

    @property
    def leads(self) -> Uplink | None:
        """What leads out of it when it is no plain bridge."""
        return Uplink.load(self.uplink) if self.uplink else None

    @property
    def is_builtin(self) -> bool:
        return self.name in BUILTIN_NAMES

    @property
    def segment(self) -> Segment:
        return Segment(
            self.bridge,
            IPv4Network(self.subnet) if self.subnet else None,
            masquerade=self.masquerade and self.publishes,
            icc=self.icc,
            internal=self.internal or not self.publishes,
            subnet6=IPv6Network(self.subnet6) if self.subnet6 else None,
            mode=self.mode,
            mode6=self.mode6,
            source=self.source,
            source6=self.source6,
            trusted=self.trusted,
        )

    @property
    def interface(self) -> IPv4Interface | None:
        """The bridge's own address."""
        if not self.subnet or self.driver == "overlay" or self.mode == ISOLATED:
            return None
        if self.inhibit_ipv4:
            return None
        return IPv4Interface(f"{self.gateway}/{IPv4Network(self.subnet).prefixlen}")

    @property
    def interface6(self) -> IPv6Interface | None:
        if not self.subnet6 or self.driver == "overlay" or self.mode6 == ISOLATED:
            return None
        return IPv6Interface(f"{self.gateway6}/{IPv6Network(self.subnet6).prefixlen}")

    @property
    def is_routed(self) -> bool:
        """Whether its containers' default route needs no gateway: ipvlan's modes l3 and l3s."""
        return self.uplink.get("kind") == "ipvlan" and self.uplink["mode"] != "l2"

    @property
    def leads_out(self) -> bool:
        """Whether the default route of a container may go through it."""
        gateways = (self.gateway_of_containers(), self.gateway6_of_containers())
        return self.has_addresses and (self.is_routed or any(gateways))

    def gateway_of_containers(self) -> IPv4Address | None:
        if self.internal or not self.subnet or self.driver == "overlay" or self.is_routed:
            return None
        if self.is_remote:
            return None
        return IPv4Address(self.default_gateway or self.gateway)

    def gateway6_of_containers(self) -> IPv6Address | None:
        if self.internal or not self.subnet6 or self.driver == "overlay" or self.is_routed:
            return None
        if self.is_remote:
            return None
        return IPv6Address(self.default_gateway6 or self.gateway6)

    def space6(self) -> AddressSpace6 | None:
        if not self.subnet6:
            return None
        reserved = [self.gateway6, self.default_gateway6, *self.auxiliary6.values()]
        return AddressSpace6(
            IPv6Network(self.subnet6),
            within=IPv6Network(self.ip_range6) if self.ip_range6 else None,
            reserved=[IPv6Address(address) for address in reserved if address],
        )

    def space(self) -> AddressSpace | None:
        if not self.subnet:
            return None
        reserved = [self.gateway, self.default_gateway, *self.auxiliary.values()]
        return AddressSpace(
            IPv4Network(self.subnet),
            within=IPv4Network(self.ip_range) if self.ip_range else None,
            reserved=[IPv4Address(address) for address in reserved if address],
        )

    def ipam(self) -> dict[str, Any]:
        configs = [
            _ipam_config(self.subnet, self.ip_range, self.gateway, self.auxiliary),
            _ipam_config(self.subnet6, self.ip_range6, self.gateway6, self.auxiliary6),
        ]
        return {
            "Driver": self.ipam_driver or "default",
            "Options": dict(self.ipam_options) or None,
            "Config": [config for config in configs if config],
        }

    def status(self, places: Sequence[EndpointRecord]) -> dict[str, Any]:
        """The API's NetworkStatus."""
        subnets = {}
        if self.subnet:
            mine = (self.gateway, self.default_gateway, *self.auxiliary.values())
            taken = [e.ip for e in places]
            subnets[self.subnet] = subnet_status(self.subnet, self.ip_range, mine, taken)
        if self.subnet6:
            mine = (self.gateway6, self.default_gateway6, *self.auxiliary6.values())
            taken = [e.ip6 for e in places]
            subnets[self.subnet6] = subnet_status(self.subnet6, self.ip_range6, mine, taken)
        return {"IPAM": {"Subnets": subnets}}

    def document(self, containers: Mapping[str, Any]) -> dict[str, Any]:
        """The API's Network."""
        return {
            "Name": self.name,
            "Id": self.id,
            "Created": self.created,
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv4": bool(self.subnet or not self.subnet6),
            "EnableIPv6": bool(self.subnet6),
            "IPAM": self.ipam(),
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": self.config_from},
            "ConfigOnly": bool(self.template),
            "Containers": dict(containers),
            "Options": dict(self.options),
            "Labels": dict(self.labels),
            **self.template,
        }


def _ipam_config(
    subnet: str, ip_range: str, gateway: str, auxiliary: Mapping[str, str]
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if subnet:
        config["Subnet"] = subnet
        if ip_range:
            config["IPRange"] = ip_range
        config["Gateway"] = gateway
    if auxiliary:
        config["AuxiliaryAddresses"] = dict(auxiliary)
    return config


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A container's place in a network, and the sandbox it is in. Stored while it is attached."""

    id: str
    network: str
    sandbox: str  # id of the network namespace; "" in the host's
    container: str
    name: str
    hostname: str = ""
    domainname: str = ""
    mode: str = "bridge"
    bindings: Mapping[str, Any] = field(default_factory=dict)  # what was asked to be published
    address: str = ""  # with prefix
    gateway: str = ""
    mac: str = ""
    host_link: str = ""
    inner_link: str = ""
    address6: str = ""  # with prefix
    gateway6: str = ""
    asked_address6: str = ""
    asked_address: str = ""
    asked_mac: str = ""
    gw_priority: int = 0
    aliases: Sequence[str] = ()
    links: Sequence[str] = ()  # "container:alias"
    driver_options: Mapping[str, str] = field(default_factory=dict)
    servers: Sequence[tuple[str, bool]] = ()  # of the sandbox: see daemon/names.py
    named: bool = False  # in a network with names: a user-defined one
    source: str = ""  # what a plugin's link is called on the host
    link_local: Sequence[str] = ()  # more addresses, as asked for
    place: int = -1  # its number among the sandbox's places; -1: its interface's name has it
    external: bool = False  # its plugin was told that it leads out
    whole: bool = True  # False while a running container joins or leaves: a crash ends the place

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> EndpointRecord:
        fields = json.loads(text)
        for name in ("aliases", "links", "link_local"):
            fields[name] = tuple(fields.get(name) or ())
        fields["servers"] = tuple((server, by_host) for server, by_host in fields["servers"])
        return cls(**fields)

    @classmethod
    def absent(
        cls, network: NetworkRecord, container: str, settings: Mapping[str, Any]
    ) -> EndpointRecord:
        """The place of a container that does not run: without id and addresses."""
        ipam = settings.get("IPAMConfig") or {}
        return cls(
            id="",
            network=network.id,
            sandbox="",
            container=container,
            name="",
            asked_address=ipam.get("IPv4Address") or "",
            asked_address6=ipam.get("IPv6Address") or "",
            asked_mac=settings.get("MacAddress") or "",
            mac=settings.get("MacAddress") or "",
            gw_priority=settings.get("GwPriority") or 0,
            aliases=settings.get("Aliases") or (),
            links=settings.get("Links") or (),
            driver_options=settings.get("DriverOpts") or {},
            link_local=tuple(ipam.get("LinkLocalIPs") or ()),
        )

    @property
    def number(self) -> int:
        """Of its interface in the sandbox: eth0, eth1, ... unless another name was asked for."""
        if self.place >= 0:
            return self.place
        return int(self.inner_link[len(self.inner_link.rstrip("0123456789")) :] or -1)

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]

    @property
    def ip6(self) -> str:
        return self.address6.partition("/")[0]

    @property
    def prefix6(self) -> int:
        return int(self.address6.partition("/")[2] or 0)

    @property
    def addresses(self) -> list[str]:
        """Without prefix, of both families."""
        return [address for address in (self.ip, self.ip6) if address]

    @property
    def prefix(self) -> int:
        return int(self.address.partition("/")[2] or 0)

    @property
    def dns_names(self) -> list[str]:
        """What others in the network may call it; its own name first."""
        short = self.container[:SHORT_ID_LENGTH]
        return list(dict.fromkeys(n for n in (self.name, *self.aliases, short, self.hostname) if n))

    def names_document(self, network_name: str) -> dict[str, Any]:
        """A place, as the resolver has it: see barque.network.dns.server."""
        links = {}
        for link in self.links:
            target, _, alias = link.partition(":")
            links[alias or target] = target
        return {
            "network": self.network,
            "network_name": network_name,
            "names": self.dns_names,
            "addresses": [ip_address(address).packed.hex() for address in self.addresses],
            "links": links,
            "ports": list(self.bindings),
        }

    def member(self) -> dict[str, Any]:
        """An entry of a network's Containers."""
        return {
            "Name": self.name,
            "EndpointID": self.id,
            "MacAddress": self.mac,
            "IPv4Address": self.address,
            "IPv6Address": self.address6,
        }

    def settings(self) -> dict[str, Any]:
        """An entry of a container's NetworkSettings.Networks (EndpointSettings)."""
        asked: dict[str, Any] = {}
        if self.asked_address:
            asked["IPv4Address"] = self.asked_address
        if self.asked_address6:
            asked["IPv6Address"] = self.asked_address6
        if self.link_local:
            asked["LinkLocalIPs"] = list(self.link_local)
        names = self.dns_names if self.named else None
        return {
            "IPAMConfig": asked or None,
            "Links": list(self.links) or None,
            "Aliases": list(self.aliases) or None,
            "MacAddress": self.mac,
            "DriverOpts": dict(self.driver_options) or None,
            "GwPriority": self.gw_priority,
            "NetworkID": self.network,
            "EndpointID": self.id,
            "Gateway": self.gateway,
            "IPAddress": self.ip,
            "IPPrefixLen": self.prefix,
            "IPv6Gateway": self.gateway6,
            "GlobalIPv6Address": self.ip6,
            "GlobalIPv6PrefixLen": self.prefix6,
            "DNSNames": names,
        }


def ports_document(
    bindings: Mapping[str, Any], published: Iterable[Published]
) -> dict[str, list[dict[str, str]] | None]:
    """NetworkSettings.Ports: what is published, and null for what is only exposed."""
    document: dict[str, list[dict[str, str]] | None] = dict.fromkeys(bindings)
    for port in published:
        key = f"{port.container_port}/{port.protocol}"
        entry = {"HostIp": str(port.host_ip), "HostPort": str(port.host_port)}
        if port.is_opened:  # at the container's own address
            entry = {"HostIp": "0.0.0.0" if port.host_ip.version == 4 else "::", "HostPort": ""}
        document[key] = [*(document.get(key) or ()), entry]
    return document


def sandbox_settings(
    *,
    sandbox: str = "",
    key: str = "",
    ports: Mapping[str, Any] | None = None,
    endpoints: Mapping[str, EndpointRecord] | None = None,
) -> dict[str, Any]:
    """The API's NetworkSettings; `endpoints` by network name."""
    endpoints = endpoints or {}
    default = endpoints.get("bridge")
    return {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": key,
        "Ports": dict(ports or {}),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": default.id if default else "",
        "Gateway": default.gateway if default else "",
        "GlobalIPv6Address": default.ip6 if default else "",
        "GlobalIPv6PrefixLen": default.prefix6 if default else 0,
        "IPAddress": default.ip if default else "",
        "IPPrefixLen": default.prefix if default else 0,
        "IPv6Gateway": default.gateway6 if default else "",
        "MacAddress": default.mac if default else "",
        "Networks": {name: endpoint.settings() for name, endpoint in endpoints.items()},
    }
