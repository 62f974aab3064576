"""What a container's /etc/hosts and /etc/resolv.conf say because of its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from barque.daemon.sandboxes.state import SandboxState
from barque.network import files
from barque.network.options import DnsOptions, NetworkOptions

HOST_RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
HOST_HOSTS = Path("/etc/hosts")


@dataclass(frozen=True, slots=True)
class NameFiles:
    """What a container's files say because of the networks it is in now."""

    hosts: tuple[str, ...]  # lines of /etc/hosts: its own addresses
    resolv_conf: str


class Texts:
    def __init__(self, options: NetworkOptions) -> None:
        self._options = options

    def servers(self, own: DnsOptions) -> list[tuple[str, bool]]:
        """Who answers what is no container's name: (address, whether the host asks it).

        The container asks itself, from its own networks; what only the host reaches, the host.
        """
        given = own.servers or self._options.dns
        if given:
            return [(server, False) for server in given]
        return files.forwarders(_read(HOST_RESOLV_CONF))

    def of(
        self, state: SandboxState, dns: DnsOptions, extra: Sequence[tuple[str, str]]
    ) -> tuple[str, str]:
        """The contents of hosts and of resolv.conf for a container in the sandbox `state`."""
        own = files.own_names(state.hostname, state.domainname)
        names = [(address, own) for e in state.endpoints for address in e.addresses]
        if state.mode != "host":
            return files.hosts(names, extra), self._own_resolv_conf(state, dns)
        resolv_conf = _read(HOST_RESOLV_CONF)
        if dns.servers or dns.search or dns.options:
            resolv_conf = self._resolv_conf(resolv_conf, dns)
        return files.hosts(names, extra, head=_read(HOST_HOSTS)), resolv_conf

    def names_of(self, state: SandboxState, dns: DnsOptions) -> NameFiles:
        """Of a sandbox as it is now."""
        own = files.own_names(state.hostname, state.domainname)
        lines = (f"{address}\t{own}" for e in state.endpoints for address in e.addresses)
        return NameFiles(tuple(lines), self._own_resolv_conf(state, dns))

    def _own_resolv_conf(self, state: SandboxState, dns: DnsOptions) -> str:
        """Of a sandbox that is not the host's: asks our resolver when it is in a named network."""
        host = _read(HOST_RESOLV_CONF)
        if state.has_names:
            return files.internal_resolv_conf(
                host,
                search=dns.search or self._options.dns_search,
                options=dns.options or self._options.dns_options,
            )
        if not files.usable_servers(host):
            host = _read(SYSTEMD_RESOLV_CONF) or host
        return self._resolv_conf(host, dns)

    def _resolv_conf(self, host: str, dns: DnsOptions) -> str:
        return files.resolv_conf(
            host,
            servers=dns.servers or self._options.dns,
            search=dns.search or self._options.dns_search,
            options=dns.options or self._options.dns_options,
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
