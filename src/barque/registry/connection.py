"""One connection to one origin, and the small pool that keeps idle ones. asyncio streams."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from barque import errors
from barque.registry.addresses import Address
from barque.registry.http1 import Head, ResponseParser, request_head
from barque.registry.proxies import Proxy

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT_S = 30.0
TLS_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 60.0  # no byte for so long: the server is given up
READ_BYTES = 256 << 10
STREAM_LIMIT_BYTES = 1 << 20
IDLE_PER_ORIGIN = 8


class Broken(errors.Unavailable):
    """The connection failed on the way; the same request may succeed on another."""


class NotTls(Broken):
    """The peer answered, but not in TLS."""


class Connection:
    """Requests one after the other. After any exception the connection is closed."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        proxy: Proxy | None = None,
    ) -> None:
        """`proxy`: one that is told the whole URL of each request."""
        self._reader, self._writer, self._proxy = reader, writer, proxy
        self._parser = ResponseParser()

    async def send(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes = b"",
    ) -> Head:
        """Sends a request; returns the head of its response. An iterator as body needs a length."""
        self._parser = ResponseParser(head_only=method == "HEAD")
        try:
            target = address.target
            if self._proxy is not None:
                target = str(address)
                if self._proxy.authorization:
                    headers = {**headers, "Proxy-Authorization": self._proxy.authorization}
            self._writer.write(request_head(method, target, headers))
            await self._send_body(body)
            while self._parser.head is None:
                self._parser.feed(await self._read())
        except errors.DataLoss as error:
            raise Broken(str(error)) from None
        except (OSError, EOFError) as error:
            raise Broken(_reason(error)) from error
        return self._parser.head

    async def tunnel(self, proxy: Proxy, address: Address, tls: ssl.SSLContext) -> None:
        """Has the proxy at the other end connect to `address`, and begins TLS with that."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        target = f"{host}:{address.port}"
        headers = {"Host": target}
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
        self._parser = ResponseParser(head_only=True)
        try:
            self._writer.write(request_head("CONNECT", target, headers))
            while self._parser.head is None:
                self._parser.feed(await self._read())
            if self._parser.head.status != 200:
                status = self._parser.head.status
                raise errors.Unavailable(f"proxy {proxy.address.authority}: status {status}")
            async with asyncio.timeout(TLS_TIMEOUT_S):
                await self._writer.start_tls(tls, server_hostname=address.host)
        except errors.DataLoss as error:
            raise Broken(str(error)) from None
        except TimeoutError:
            raise Broken(f"proxy {proxy.address.authority}: i/o timeout") from None
        except OSError as error:
            raise _dial_failure(f"proxy {proxy.address.authority}", error) from error

    async def _send_body(self, body: AsyncIterator[bytes] | bytes) -> None:
        if isinstance(body, bytes):
            self._writer.write(body)
        else:
            async for chunk in body:
                self._writer.write(chunk)
                await self._drained()
        await self._drained()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await self._writer.drain()
        except TimeoutError:
            raise Broken(f"nothing taken for {STALL_TIMEOUT_S:.0f} seconds") from None

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise Broken(f"no answer for {STALL_TIMEOUT_S:.0f} seconds") from None

    async def body(self) -> AsyncIterator[bytes]:
        """The body of the last response, as it comes. Raises Broken when it is cut short."""
        while True:
            chunk = self._parser.take_body()
            if chunk:
                yield chunk
            elif self._parser.finished:
                return
            else:
                try:
                    self._parser.feed(await self._read())
                except errors.DataLoss as error:
                    raise Broken(str(error)) from None
                except OSError as error:
                    raise Broken(_reason(error)) from error

    @property
    def reusable(self) -> bool:
        return self._parser.finished and self._parser.reusable and not self._reader.at_eof()

    def close(self) -> None:
        self._writer.close()


def _reason(error: BaseException) -> str:
    if "SSL" in type(error).__name__:  # whose numbers are not the kernel's
        detail = str(getattr(error, "reason", None) or error)
        return f"tls: {detail.lower().replace('_', ' ')}"
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error)


async def connect_by(proxy: Proxy, address: Address, tls: ssl.SSLContext | None) -> Connection:
    """As `connect`, through a proxy: a tunnel for TLS, whole URLs without. RFC 9110, CONNECT."""
    by = await connect(proxy.address, None)
    if tls is None:
        return Connection(by._reader, by._writer, proxy)
    try:
        await by.tunnel(proxy, address, tls)
    except BaseException:
        by.close()
        raise
    return by


async def connect(address: Address, tls: ssl.SSLContext | None) -> Connection:
    """Raises Unavailable with Docker's words: `dial tcp 127.0.0.1:5000: connect: ...`."""
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror:
        raise errors.Unavailable(f"dial tcp: lookup {address.host}: no such host") from None
    failure: Exception = errors.Unavailable(f"dial tcp: lookup {address.host}: no such host")
    for _family, _type, _protocol, _name, target in infos:
        try:
            return await _dial(str(target[0]), int(target[1]), address.host, tls)
        except errors.Unavailable as error:
            failure = error
    raise failure


async def _dial(ip: str, port: int, name: str, tls: ssl.SSLContext | None) -> Connection:
    where = f"dial tcp {f'[{ip}]' if ':' in ip else ip}:{port}"
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                ip,
                port,
                ssl=tls,
                server_hostname=name if tls else None,
                ssl_handshake_timeout=TLS_TIMEOUT_S if tls else None,
                limit=STREAM_LIMIT_BYTES,
            ),
            CONNECT_TIMEOUT_S,
        )
    except TimeoutError:
        raise errors.Unavailable(f"{where}: i/o timeout") from None
    except OSError as error:
        raise _dial_failure(where, error) from error
    return Connection(reader, writer)


def _dial_failure(where: str, error: OSError) -> errors.Unavailable:
    if tls_verification := getattr(error, "verify_message", ""):
        return errors.Unavailable(f"tls: failed to verify certificate: {tls_verification}")
    if "SSL" in type(error).__name__:
        return NotTls(_reason(error))
    if isinstance(error, ConnectionResetError):
        return NotTls(f"tls: {_reason(error)}")
    return errors.Unavailable(f"{where}: connect: {_reason(error)}")


class Pool:
    """Idle connections by origin. A connection is either here or owned by one exchange."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str, int], list[Connection]] = {}

    def take(self, origin: tuple[str, str, int]) -> Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    def give(self, origin: tuple[str, str, int], connection: Connection) -> None:
        idle = self._idle.setdefault(origin, [])
        if connection.reusable and len(idle) < IDLE_PER_ORIGIN:
            idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
