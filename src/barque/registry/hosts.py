"""Which server answers for the domain of an image reference, and how far it must prove itself.

TLS with a verified certificate, always, but for loopback and the domains named as insecure: these
may show any certificate, and may speak plain HTTP. No failure of TLS leads to plain HTTP elsewhere.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass, field

from barque import errors
from barque.proxied import is_loopback
from barque.registry import addresses
from barque.registry.addresses import Address
from barque.registry.proxies import Proxies

DOCKER_HUB = "docker.io"
_SERVERS = {DOCKER_HUB: "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Policy:
    """`insecure` holds domains (`host` or `host:port`) and networks (`10.0.0.0/8`)."""

    insecure: frozenset[str] = frozenset()
    mirrors: tuple[str, ...] = ()  # URLs, of Docker Hub
    proxies: Proxies = field(default_factory=Proxies)
    certificates: str = "/etc/docker/certs.d"  # <domain>/*.crt, *.cert with *.key
    attempts: int = 5  # of each request and each blob, where trying again may help

    def is_insecure(self, domain: str) -> bool:
        host = addresses.parse(f"https://{domain}/").host
        return is_loopback(host) or self.is_named(domain)

    def is_named(self, domain: str) -> bool:
        """Whether somebody said that it is insecure; loopback is so by itself."""
        host = addresses.parse(f"https://{domain}/").host
        if domain in self.insecure or host in self.insecure:
            return True
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        networks = (entry for entry in self.insecure if "/" in entry)
        return any(ip in ipaddress.ip_network(network, strict=False) for network in networks)

    def mirror_domains(self) -> tuple[str, ...]:
        """The mirrors as domains. Raises InvalidArgument for one that is no URL."""
        return tuple(_mirror(url).authority for url in self.mirrors)

    def bases(self, domain: str) -> tuple[Address, ...]:
        """The servers to ask, in order; the second only where the first does not speak TLS."""
        server = _SERVERS.get(domain, domain)
        for mirror in self.mirrors:
            if _mirror(mirror).authority == domain:
                return (_mirror(mirror),)
        schemes = ("https", "http") if self.is_insecure(server) else ("https",)
        return tuple(addresses.parse(f"{scheme}://{server}/") for scheme in schemes)

    def tls(self, domain: str) -> ssl.SSLContext:
        """Raises InvalidArgument where the domain's own certificates cannot be read."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context, domain)
        if self.is_insecure(domain):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _load(self, context: ssl.SSLContext, domain: str) -> None:
        directory = f"{self.certificates}/{domain}"
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            return
        for name in names:
            path = f"{directory}/{name}"
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
            except (OSError, ssl.SSLError) as error:
                raise errors.InvalidArgument(f"certificate {path}: {error}") from error


def _mirror(url: str) -> Address:
    found = addresses.parse(url)
    if found.target != "/":
        raise errors.InvalidArgument(f"invalid mirror: path {found.target!r} in {url!r}")
    return found
