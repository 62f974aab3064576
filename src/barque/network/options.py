"""What dockerd's network options say, as the daemon's flags and daemon.json give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_BRIDGE = "barque0"
NO_BRIDGE = "none"
DEFAULT_MTU = 1500
HAS_IPV6 = "/proc/net/if_inet6"  # there in a kernel that has it

# Docker's pools for networks whose subnet is not given: (base, prefix length of each network).
DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    *((f"172.{second}.0.0/16", 16) for second in range(17, 32)),
    ("192.168.0.0/16", 20),
)


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Empty strings mean "not given"."""

    bridge: str = ""  # --bridge: "" is barque0 or the next free name, "none" is no default network
    bip: str = ""  # --bip: address and prefix of the default bridge
    fixed_cidr: str = ""  # --fixed-cidr: where its containers' addresses come from
    default_gateway: str = ""  # --default-gateway of containers on it
    mtu: int = DEFAULT_MTU  # --mtu
    icc: bool = True  # --icc
    ip_masq: bool = True  # --ip-masq
    ip_forward: bool = True  # --ip-forward: switch the kernel's forwarding on
    ip_forward_no_drop: bool = False  # --ip-forward-no-drop: and let the host become a router
    firewall: bool = True  # --iptables: rules at all
    firewall_backend: str = ""  # --firewall-backend: nftables, iptables
    host_policy: bool = False  # --publish-host-policy: published ports ask the host's input rules
    accept_mark: str = ""  # --bridge-accept-fwmark: MARK/MASK, hexadecimal
    direct_routing: bool = False  # --allow-direct-routing: to published ports
    firewall6: bool = True  # --ip6tables: rules for IPv6
    proxy: bool = False  # --userland-proxy: serve callers whom no rule can redirect
    default_host_ip: str = "0.0.0.0"  # --ip: where ports are published that name no address
    pools: tuple[tuple[str, int], ...] = DEFAULT_POOLS  # --default-address-pool
    pools6: tuple[tuple[str, int], ...] = ()  # of it those of IPv6; then addresses of our own
    ipv6: bool = False  # --ipv6: of the default network
    fixed_cidr_v6: str = ""  # --fixed-cidr-v6: its IPv6 subnet
    bip6: str = ""  # --bip6: its bridge's own IPv6 address
    default_gateway_v6: str = ""  # --default-gateway-v6 of containers on it
    dns: tuple[str, ...] = ()  # --dns
    dns_search: tuple[str, ...] = ()  # --dns-search
    dns_options: tuple[str, ...] = ()  # --dns-opt
    host_gateway_ips: tuple[str, ...] = ()  # --host-gateway-ip: "host-gateway" in --add-host
    driver_options: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # --default-network-opt: of new networks, by driver
    pool_size: int = 4  # warm network namespaces kept

    @property
    def proxied_versions(self) -> tuple[int, ...]:
        """The IP versions of host addresses that the proxy serves, beside the rules."""
        if not self.proxy:
            return ()
        fourth = () if self.firewall else (4,)
        return (*fourth, 6) if os.path.exists(HAS_IPV6) else fourth


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """A container's own --dns, --dns-search, --dns-option and --add-host ("name:address")."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    domainname: str = ""
