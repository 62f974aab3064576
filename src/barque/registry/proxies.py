"""Proxies on the way to registries: which one, if any, and how to ask it. No I/O.

As curl and Go have it: one proxy for http, one for https, and a list of the hosts that are reached
directly; loopback always is.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from barque import errors
from barque.proxied import is_direct
from barque.registry.addresses import Address

DEFAULT_PORT = 80


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
        if not text or is_direct(address.host, address.port, self.none):
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
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = -1
    if parts.scheme != "http" or not parts.hostname or port < 0:
        raise errors.InvalidArgument(f"proxy of scheme {parts.scheme!r}: only http:// is there")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(Address("http", parts.hostname, port, "/"), authorization)
