"""Where requests go: an origin and a target, taken from URLs that servers may have chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from barque import errors

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https URL without user, password and fragment."""

    scheme: str
    host: str  # lower case; an IPv6 address without its brackets
    port: int
    target: str  # path and query, at least "/"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def shown(self) -> str:
        """For messages: a query may hold a signature that is as good as a password."""
        return str(self).partition("?")[0]

    def at(self, target: str) -> Address:
        """The same origin, another target."""
        return replace(self, target=target)

    def join(self, location: str) -> Address:
        """Where a `Location` leads from here. Raises InvalidArgument."""
        try:
            joined = urljoin(str(self), location)
        except ValueError as error:
            raise errors.InvalidArgument(f"invalid URL: {error}") from None
        return parse(joined)


def parse(url: str) -> Address:
    """Raises InvalidArgument for what is no http(s) URL, or has a user or password in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid URL: {error}") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise errors.InvalidArgument(f"invalid URL {url[:200]!r}: not http or https")
    if parts.username is not None or parts.password is not None:
        raise errors.InvalidArgument(f"invalid URL for host {parts.hostname!r}: has a user in it")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], target)
