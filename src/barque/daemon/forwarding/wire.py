"""Where a driver sends to: a stream (tcp, tls, unix) or datagrams (udp, unixgram)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from barque import errors

CONNECT_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 30.0
DATAGRAMS = ("udp", "unixgram")


class Address(NamedTuple):
    scheme: str
    path: str
    host: str = ""
    port: int = 0

    @property
    def keeps_order(self) -> bool:
        """A connection, which can be refused; datagrams go nowhere without a word."""
        return self.scheme not in DATAGRAMS


def parse(text: str, what: str, schemes: tuple[str, ...], port: int) -> Address:
    """`scheme://host[:port]` or `unix:///path`. Raises InvalidArgument that names the option."""
    scheme, found, _ = text.partition("://")
    if not found or scheme not in schemes:
        raise errors.InvalidArgument(
            f"invalid {what} {text!r}: expected one of {', '.join(f'{s}://' for s in schemes)}"
        )
    try:
        parts = urlsplit(text)
        number = parts.port or port
    except ValueError:
        raise errors.InvalidArgument(f"invalid {what} {text!r}") from None
    if scheme.startswith("unix"):
        if not parts.path:
            raise errors.InvalidArgument(f"invalid {what} {text!r}: no path")
        return Address(scheme, parts.path)
    if not parts.hostname:
        raise errors.InvalidArgument(f"invalid {what} {text!r}: no host")
    return Address(scheme, "", parts.hostname, number)


class Wire:
    """One connection. Raises OSError (TimeoutError among them) from all methods."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self._tls = tls
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._stream is not None or self._socket is not None

    async def open(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if self.address.keeps_order:
                self._stream = await self._open_stream()
            else:
                self._socket = await self._open_datagram()

    async def _open_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.scheme == "unix":
            return await asyncio.open_unix_connection(self.address.path)
        host, port = self.address.host, self.address.port
        return await asyncio.open_connection(host, port, ssl=self._tls)

    async def _open_datagram(self) -> socket.socket:
        loop, address = asyncio.get_running_loop(), self.address
        family, target = socket.AF_UNIX, [(socket.AF_UNIX, address.path)]
        if address.scheme == "udp":
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
            target = [(item[0], item[4]) for item in found]  # type: ignore[misc]
        family, place = target[0]
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, place)
        except BaseException:
            made.close()
            raise
        return made

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if self._socket is not None:
                await asyncio.get_running_loop().sock_sendall(self._socket, data)
            elif self._stream is not None:
                if self._stream[0].at_eof():  # a write would be taken, and lost
                    raise ConnectionResetError("the connection was closed")
                self._stream[1].write(data)
                await self._stream[1].drain()

    async def receive(self) -> bytes:
        """Some bytes of an answer; raises ConnectionResetError at the end."""
        assert self._stream is not None
        async with asyncio.timeout(SEND_TIMEOUT_S):
            data = await self._stream[0].read(65536)
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
        if self._socket is not None:
            self._socket.close()
        self._stream = self._socket = None
