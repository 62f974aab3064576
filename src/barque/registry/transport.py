"""Requests over pooled connections: TLS or not, redirects, and what may be sent to whom.

A credential goes to the origin that it was made for, and never along a redirect to another.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from barque import errors
from barque.proxied import is_loopback
from barque.registry.addresses import Address
from barque.registry.connection import Broken, Connection, NotTls, Pool, connect, connect_by
from barque.registry.hosts import Policy
from barque.registry.http1 import Head

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DRAIN_BYTES = 64 << 10  # a body nobody wants is read up to here to keep the connection
USER_AGENT = "barque"
PRIVATE_HEADERS = frozenset({"authorization", "cookie"})


@dataclass(slots=True)
class Exchange:
    """One answer. `address` is where it came from at last."""

    address: Address
    head: Head
    _connection: Connection

    def chunks(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ResourceExhausted beyond `limit` bytes."""
        data = bytearray()
        async for chunk in self._connection.body():
            data += chunk
            if len(data) > limit:
                where = self.address.shown
                raise errors.ResourceExhausted(f"{where}: answer is larger than {limit} bytes")
        return bytes(data)

    def next_page(self) -> str | None:
        """The target of `Link: <...>; rel="next"`, if it stays on this server."""
        match = re.match(r'<([^>]+)>\s*;\s*rel="?next"?', self.head.headers.get("link", ""))
        if not match:
            return None
        following = self.address.join(match[1])
        return following.target if following.origin == self.address.origin else None

    async def drain(self) -> None:
        size = 0
        async for chunk in self._connection.body():
            size += len(chunk)
            if size > DRAIN_BYTES:
                return


class Transport:
    """Connections to any number of registries. One for the whole daemon; `close` at its end."""

    def __init__(self, policy: Policy, user_agent: str = USER_AGENT) -> None:
        self.policy = policy
        self._user_agent = user_agent
        self._pool = Pool()
        self._tls: dict[str, ssl.SSLContext] = {}
        self._bases: dict[str, Address] = {}

    def close(self) -> None:
        self._pool.close()

    async def base(self, domain: str) -> Address:
        """The server of a domain; one that may speak plain HTTP is asked once which it speaks."""
        if domain in self._bases:
            return self._bases[domain]
        *tried, last = self.policy.bases(domain)
        for base in tried:
            try:
                async with self.exchange("GET", base.at("/v2/"), {}) as answer:
                    await answer.drain()
            except errors.Unavailable as error:
                if isinstance(error, Broken) and not isinstance(error, NotTls):
                    raise  # it speaks TLS, and does not want us
                continue
            self._bases[domain] = base
            return base
        if not tried:
            self._bases[domain] = last
        return last

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes = b"",
    ) -> AsyncIterator[Exchange]:
        """One request and its answer; redirects are followed for GET and HEAD only.

        Raises Unavailable when no answer came: Broken where trying again may help.
        """
        sent = dict(headers)
        for _ in range(MAX_REDIRECTS + 1):
            connection, head = await self._send(method, address, sent, body)
            with self._held(address, connection):
                answer = Exchange(address, head, connection)
                if head.status not in REDIRECTS or method not in {"GET", "HEAD"}:
                    yield answer
                    return
                await answer.drain()
            following = self._redirected(address, head)
            if following.origin != address.origin:
                sent = {k: v for k, v in sent.items() if k.lower() not in PRIVATE_HEADERS}
            address = following
        raise errors.Unavailable(f"{address.shown}: stopped after {MAX_REDIRECTS} redirects")

    @contextmanager
    def _held(self, address: Address, connection: Connection) -> Iterator[None]:
        try:
            yield
        except BaseException:
            connection.close()
            raise
        self._pool.give(address.origin, connection)  # closes it when its body was not read whole

    def _redirected(self, address: Address, head: Head) -> Address:
        location = head.headers.get("location", "")
        if not location:
            raise errors.Unavailable(f"{address.shown}: redirect to nowhere")
        following = address.join(location)
        self.check_led(address, following)
        return following

    def check_led(self, address: Address, following: Address) -> None:
        """Whether the server at `address` may lead us there. Raises Forbidden.

        Plain HTTP only where that is insecure anyway; to what listens on this machine only from
        there: a server elsewhere has no business with it.
        """
        where = following.authority
        if following.scheme == "http" and not self.policy.is_insecure(where):
            raise errors.Forbidden(f"{address.shown}: redirect to plain HTTP at {following.shown}")
        inward = is_loopback(following.host) and not is_loopback(address.host)
        if inward and not self.policy.is_named(where):
            raise errors.Forbidden(f"{address.shown}: redirect to this machine, {following.shown}")

    async def _send(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes,
    ) -> tuple[Connection, Head]:
        lines = {"Host": address.authority, "User-Agent": self._user_agent, **headers}
        if (body and isinstance(body, bytes)) or method in {"POST", "PUT", "PATCH"}:
            lines.setdefault("Content-Length", str(len(body) if isinstance(body, bytes) else 0))
        kept = self._pool.take(address.origin)
        if kept is not None:
            try:
                return await _sent(kept, method, address, lines, body)
            except Broken:
                if not isinstance(body, bytes):  # part of it may be gone
                    raise
        try:
            fresh = await self._connect(address)
            return await _sent(fresh, method, address, lines, body)
        except NotTls as error:
            raise NotTls(_shown(method, address, error)) from error
        except Broken as error:
            raise Broken(_shown(method, address, error)) from error
        except errors.Unavailable as error:
            raise errors.Unavailable(_shown(method, address, error)) from error

    async def _connect(self, address: Address) -> Connection:
        proxy = self.policy.proxies.of(address)
        context = None
        if address.scheme == "https":
            context = self._tls.get(address.authority)
            if context is None:
                context = self._tls[address.authority] = self.policy.tls(address.authority)
        return await (connect_by(proxy, address, context) if proxy else connect(address, context))


def _shown(method: str, address: Address, error: Exception) -> str:
    return f'{method.capitalize()} "{address.shown}": {error}'


async def _sent(
    connection: Connection,
    method: str,
    address: Address,
    headers: Mapping[str, str],
    body: AsyncIterator[bytes] | bytes,
) -> tuple[Connection, Head]:
    try:
        return connection, await connection.send(method, address, headers, body)
    except BaseException:
        connection.close()
        raise
