"""The client of the Engine API: one method an endpoint, plain values in and out, synchronous.

    client = Client("unix:///run/barque/barque.sock")
    created = client.containers.create({"Image": "busybox", "Cmd": ["true"]})
    client.containers.start(created["Id"])

The version is negotiated by trying: the first request names the newest version we know, and an
older daemon answers with its own, which is used from then on. A new daemon costs no extra trip.
"""

from __future__ import annotations

import errno

from barque import errors
from barque.api.versions import API_VERSION, DEFAULT_HOST, version_tuple
from barque.client import http, json
from barque.client.connection import Connection, Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from barque.client.connection import OpenFile, Stream, Tls
    from barque.client.containers import Containers
    from barque.client.execs import Execs
    from barque.client.images import Images
    from barque.client.networks import Networks
    from barque.client.system import System
    from barque.client.volumes import Volumes

    Pairs = Iterable[tuple[str, str]]

_TOO_NEW = "Maximum supported API version is "
UPGRADE = ("Upgrade", "tcp")
_NOT_LISTENING = (errno.ENOENT, errno.ECONNREFUSED)


class Reply:
    """An answer under way: its head has been read, its body has not."""

    __slots__ = ("_client", "connection", "status")

    def __init__(self, client: Client, connection: Connection) -> None:
        self._client = client
        self.connection = connection
        self.status = connection.answer.status

    @property
    def headers(self) -> dict[str, str]:
        return self.connection.answer.headers

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; the connection is free again after the last piece."""
        yield from self.connection.read_pieces()
        self._client.release(self.connection)

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> Any:
        body = self.read()
        try:
            return json.loads(body)
        except ValueError as error:
            raise errors.DataLoss(f"malformed answer of the daemon: {error}") from None

    def documents(self) -> Iterator[Any]:
        """A body of JSON documents one after the other: progress, events, statistics."""
        text = b""
        for piece in self.pieces():
            *lines, text = (text + piece).split(b"\n")
            for line in lines:
                yield from _documents(line)
        yield from _documents(text)

    def close(self) -> None:
        """Leave the rest of the body unread."""
        self.connection.close()


def _documents(line: bytes) -> Iterator[Any]:
    """Those in one line, mostly one. Raises DataLoss."""
    rest = line.decode("utf-8", "replace").strip()
    while rest:
        try:
            document, rest = json.first(rest)
        except ValueError as error:
            raise errors.DataLoss(f"malformed answer of the daemon: {error}") from None
        rest = rest.strip()
        yield document


class Client:
    """A daemon at `host`. Not for use by several threads at once.

    `version` fixes the API version; "" negotiates it. `absent` is called once when nobody listens,
    and says whether to try again: how the command starts a daemon on demand.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        *,
        version: str = "",
        tls: Tls | None = None,
        headers: Pairs = (),
        absent: Callable[[], bool] | None = None,
    ) -> None:
        self.host = Host(host, tls)
        self.version = version or API_VERSION
        self._settled = bool(version)
        self._headers = list(headers)
        self._absent = absent
        self._idle: list[Connection] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def containers(self) -> Containers:
        from barque.client.containers import Containers

        return Containers(self)

    @property
    def execs(self) -> Execs:
        from barque.client.execs import Execs

        return Execs(self)

    @property
    def images(self) -> Images:
        from barque.client.images import Images

        return Images(self)

    @property
    def networks(self) -> Networks:
        from barque.client.networks import Networks

        return Networks(self)

    @property
    def volumes(self) -> Volumes:
        from barque.client.volumes import Volumes

        return Volumes(self)

    @property
    def system(self) -> System:
        from barque.client.system import System

        return System(self)

    def request(
        self,
        method: str,
        path: str,
        query: Pairs = (),
        *,
        body: Any = None,
        stream: Iterable[bytes | OpenFile] | None = None,
        headers: Pairs = (),
        fresh: bool = False,
    ) -> Reply:
        """One request; returns when its head has come. `body` is sent as JSON, `stream` in chunks.

        `fresh` opens a connection of its own: for what will be hijacked or takes long.
        Raises the kind that the status stands for; Unavailable when the daemon does not answer.
        """
        if stream is not None:
            self.settle()
        sent = self.send(
            method, path, query, body=body, stream=stream, headers=headers, fresh=fresh
        )
        return sent()

    def send(
        self,
        method: str,
        path: str,
        query: Pairs = (),
        *,
        body: Any = None,
        stream: Iterable[bytes | OpenFile] | None = None,
        headers: Pairs = (),
        fresh: bool = False,
    ) -> Callable[[], Reply]:
        """As `request`, but returns when it is sent; calling the result waits for the answer.

        Several sent this way are under way at once, each on its own connection.
        """
        raw: bytes | Iterable[bytes | OpenFile] | None = stream
        fields = [*self._headers, *headers]
        if body is not None:
            raw = json.dumps(body).encode()
            fields.append(("Content-Type", "application/json"))
        elif stream is not None:
            fields.append(("Content-Type", "application/x-tar"))
        rest = path + http.query_string(query)
        version = "" if self._settled else self.version  # what is tried; "" when it is known
        connection = self._send(method, rest, fields, raw, fresh)

        def finish() -> Reply:
            return self._checked(self._answer(connection, version, method, rest, fields, raw))

        return finish

    def settle(self) -> str:
        """The API version, negotiated now if it has not been."""
        if not self._settled:
            self.request("HEAD", "/_ping").read()
        return self.version

    def at_least(self, version: str) -> bool:
        """Whether the daemon speaks this API version."""
        return version_tuple(self.settle()) >= version_tuple(version)

    def hijack(
        self, path: str, query: Pairs = (), *, body: Any = None
    ) -> Callable[[], tuple[Stream, bytes, str]]:
        """Send a request that takes the connection over. The result waits for the answer's head and
        returns the raw stream, its first bytes and the content type."""
        upgrade = [("Connection", "Upgrade"), UPGRADE]
        sent = self.send("POST", path, query, body=body, headers=upgrade, fresh=True)

        def finish() -> tuple[Stream, bytes, str]:
            reply = sent()
            stream, early = reply.connection.hijack()
            return stream, early, reply.headers.get("content-type", "")

        return finish

    def release(self, connection: Connection) -> None:
        if connection.answer.reusable and not connection.answer.rest:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _connect(self, *, tunnel: bool) -> Connection:
        try:
            return Connection(self.host, tunnel=tunnel)
        except OSError as error:
            if self._absent is None or error.errno not in _NOT_LISTENING or not self._absent():
                raise self._unreachable(error) from None
        self._absent = None
        return self._connect(tunnel=tunnel)

    def _unreachable(self, error: OSError) -> errors.BarqueError:
        from barque.client.failures import unreachable

        return unreachable(self.host, error)

    def _send(
        self,
        method: str,
        rest: str,
        fields: list[tuple[str, str]],
        raw: bytes | Iterable[bytes | OpenFile] | None,
        fresh: bool,
    ) -> Connection:
        tunnel = UPGRADE in fields
        connection = self._idle.pop() if self._idle and not fresh else self._connect(tunnel=tunnel)
        target = f"/v{self.version}{rest}" if rest != "/_ping" or self._settled else rest
        try:
            connection.send(method, target, fields, raw)
        except OSError as error:
            reused = connection.used
            connection.close()
            if reused and not fresh:  # the daemon had closed the idle connection
                return self._send(method, rest, fields, raw, True)
            raise self._unreachable(error) from None
        return connection

    def _answer(
        self,
        connection: Connection,
        tried: str,
        method: str,
        rest: str,
        fields: list[tuple[str, str]],
        raw: bytes | Iterable[bytes | OpenFile] | None,
    ) -> Connection:
        """The connection with the answer's head read; sent again in a version that it knows."""
        try:
            answer = connection.read_head()
        except errors.Unavailable:
            again = connection.used and method in ("GET", "HEAD")
            connection.close()
            if not again:
                raise
            connection = self._send(method, rest, fields, raw, True)
            answer = connection.read_head()
        if tried and answer.status == 400:
            body = b"".join(connection.read_pieces())
            if not self._downgrade(body):
                raise self._refusal(400, body)
            connection.close()
            connection = self._send(method, rest, fields, raw, True)
            connection.read_head()
        elif tried and not self._settled:
            self._settle_on(answer.headers.get("api-version", ""))
        return connection

    def _downgrade(self, refusal: bytes) -> bool:
        """Whether `refusal` says that our version is too new; then the daemon's is used."""
        _, found, rest = refusal.decode("utf-8", "replace").partition(_TOO_NEW)
        newest = rest.split('"')[0].strip()
        if found:
            self.version, self._settled = newest, True
        return bool(found)

    def _settle_on(self, newest: str) -> None:
        try:
            if version_tuple(newest) < version_tuple(self.version):
                self.version = newest
        except ValueError:
            pass  # a daemon or proxy that does not tell: it took the request, so it is content
        self._settled = True

    def _checked(self, connection: Connection) -> Reply:
        reply = Reply(self, connection)
        if reply.status < 300 or reply.status == 304:
            return reply
        raise self._refusal(reply.status, reply.read())

    def _refusal(self, status: int, body: bytes) -> errors.BarqueError:
        from barque.client.failures import refusal

        return refusal(status, body)
