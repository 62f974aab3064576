"""A shim's connection over gRPC, with the calls of `barque.containerd.ttrpc.Connection`.

Source: containerd, core/runtime/v2/README.md ("Start"): a shim may answer that its protocol is
"grpc"; its services are then those of version 3, under the same names.
"""

from __future__ import annotations

import asyncio

from barque.containerd.client.channel import KINDS
from barque.containerd.http2.client import ClientConnection
from barque.containerd.http2.status import Refused, check
from barque.containerd.http2.stream import Stream
from barque.containerd.ttrpc import CONNECT_TIMEOUT_S, ConnectionLost, NobodyListens, NotSent
from barque.errors import BarqueError, DataLoss, InvalidArgument, Unavailable


class _Connection(ClientConnection):
    """`lost` is done, without exception, once it has ended from either side."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)


class GrpcLink:
    """Any number of unary calls under way at once."""

    def __init__(self, connection: _Connection, name: str, namespace: str) -> None:
        self._connection, self._name = connection, name
        self._metadata = (("containerd-namespace", namespace),)
        self.lost = connection.lost

    def send(
        self, service: str, method: str, payload: bytes, timeout_ns: int = 0
    ) -> asyncio.Future[bytes]:
        """Make a call: what gets the answer's payload, when the request is on its way.

        It fails as that of ttrpc does. Raises NotSent.
        """
        stream = self._open(service, method)
        return asyncio.ensure_future(self._exchange(stream, payload))

    async def call(self, service: str, method: str, payload: bytes, timeout_ns: int = 0) -> bytes:
        """As `send`, and the answer."""
        return await self._exchange(self._open(service, method), payload)

    def close(self) -> None:
        self._connection.close()

    def _open(self, service: str, method: str) -> Stream:
        if not self._connection.usable:
            raise NotSent(f"connection to {self._name} is closed")
        return self._connection.call(f"/{service}/{method}", self._metadata)

    async def _exchange(self, stream: Stream, payload: bytes) -> bytes:
        try:
            await stream.send(payload, end=True)
            answer = await stream.receive()
            if answer is not None:
                await stream.receive()  # the trailers
            check(stream.headers, stream.trailers)
        except Refused as refused:
            kind = KINDS.get(refused.status, BarqueError)
            raise kind(refused.text or refused.status.name.lower()) from refused
        except OSError as error:  # a stream that broke off is one
            raise ConnectionLost(f"connection to {self._name} is lost") from error
        finally:
            stream.cancel()
        if answer is None:
            raise DataLoss(f"{self._name} sent no answer")
        return answer


async def connect(address: str, name: str, namespace: str) -> GrpcLink:
    """Connect to a shim's socket: `unix://PATH`, or a path.

    Raises NobodyListens, and Unavailable for an address that can not be reached.
    """
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise InvalidArgument(f"{name} has no address that is a path: {address!r}")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_unix_connection(_Connection, path)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise NobodyListens(f"{name} does not answer at {address}: {error}") from error
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{name} does not answer at {address}: {error}") from error
    return GrpcLink(connection, name, namespace)
