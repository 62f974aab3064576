"""Proxies on the way to registries: which one, if any, and how to ask it. No I/O.

As curl and Go have it: one proxy for http, one for https, and a list of the hosts that are reached
directly; loopback always is.
"""

from __future__ import annotations

from dataclasses import dataclass

from barque import proxied
from barque.registry.addresses import Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """`authorization` is the header for it, "" for none."""

    address: Address
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Proxies:
    http: str = ""
    https: str = ""
    none: str = ""  # hosts that are reached directly: "a.example,.b.example,10.0.0.0/8,c:5000"

    def of(self, address: Address) -> Proxy | None:
        """Raises InvalidArgument for a proxy that is no URL."""
        text = self.https if address.scheme == "https" else self.http
        if not text or proxied.is_direct(address.host, address.port, self.none):
            return None
        return parse(text)


def shown(text: str) -> str:
    """A proxy as anyone may read it: Docker's `xxxxx:xxxxx` for who asks it."""
    scheme, mark, rest = text.rpartition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}{mark}{'xxxxx:xxxxx' if user else ''}{at}{host}{slash}{path}"


def parse(text: str) -> Proxy:
    """`http://user:password@host:port`; the scheme may be missing. Raises InvalidArgument."""
    host, port, authorization = proxied.parse(text)
    return Proxy(Address("http", host, port, "/"), authorization)
