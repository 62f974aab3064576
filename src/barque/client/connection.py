"""One connection to a daemon: a unix or tcp socket, with TLS when asked for, and HTTP on it."""

from __future__ import annotations

import _socket
import errno
import posix

from barque import errors
from barque.api.versions import DEFAULT_SOCKET
from barque.client import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    from barque.client.proxies import Proxy

    class OpenFile(Protocol):
        """A part of a body that is in a file: see `barque.oci.tar_pack.Content`."""

        fd: int
        size: int

        def chunks(self) -> Iterator[bytes]: ...

    class Stream(Protocol):
        """What of a socket is used: of `_socket` or of `ssl`."""

        def sendall(self, data: bytes, /) -> None: ...
        def send(self, data: bytes, /) -> int: ...
        def recv(self, size: int, /) -> bytes: ...
        def fileno(self) -> int: ...
        def shutdown(self, how: int, /) -> None: ...
        def setblocking(self, flag: bool, /) -> None: ...
        def close(self) -> None: ...


RECEIVE_BYTES = 256 << 10
SENT_AT_ONCE_BYTES = 64 << 10  # more may meet a daemon that has answered and closed meanwhile
PROXIES = (b"HTTP_PROXY", b"http_proxy", b"HTTPS_PROXY", b"https_proxy")
DEFAULT_TCP_PORT, DEFAULT_TLS_PORT = 2375, 2376


class Host:
    """Where a daemon listens: `unix:///path`, `tcp://host:port`, `http(s)://`, `ssh://`."""

    __slots__ = ("address", "header", "proxy", "scheme", "text", "tls")

    def __init__(self, text: str, tls: Tls | None = None) -> None:
        """Raises InvalidArgument or Unsupported."""
        scheme, found, rest = text.partition("://")
        if not found:
            scheme, rest = "tcp", text
        self.text, self.scheme, self.tls = text, scheme, tls
        self.proxy: Proxy | None = None
        if scheme == "unix":
            self.address: Any = rest or DEFAULT_SOCKET
            self.header = "docker"
        elif scheme in ("tcp", "http", "https"):
            if scheme == "https" and tls is None:
                self.tls = Tls()
            self.address = _tcp_address(text, rest, bool(self.tls))
            self.header = rest.partition("/")[0]
            if any(name in posix.environ for name in PROXIES):
                from barque.client import proxies

                self.proxy = proxies.of(self.address, encrypted=self.tls is not None)
        elif scheme == "ssh":
            from barque.client import ssh

            self.address, self.header = ssh.parse(text), "docker"
        elif scheme in ("npipe", "fd"):
            raise errors.Unsupported(f"host {text!r}: {scheme}:// is not there yet")
        else:
            raise errors.InvalidArgument(f"unable to parse docker host `{text}`")


def _tcp_address(text: str, rest: str, tls: bool) -> tuple[str, int]:
    name = rest.partition("/")[0]
    host, colon, port = name.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = name, str(DEFAULT_TLS_PORT if tls else DEFAULT_TCP_PORT)
    if not port.isdigit() or int(port) > 65535:
        raise errors.InvalidArgument(f"unable to parse docker host `{text}`")
    return host.strip("[]") or "127.0.0.1", int(port)


class Tls:
    """The files of a TLS client; `verify` says whether the daemon's certificate is checked."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str = "", cert: str = "", key: str = "", verify: bool = True) -> None:
        self.ca, self.cert, self.key, self.verify = ca, cert, key, verify


def open_stream(host: Host, *, tunnel: bool = False) -> Stream:
    """A connection to a daemon, nothing sent yet. Raises OSError.

    Where there is a proxy, it is one to that, unless it is to be a raw stream later (`tunnel`).
    """
    if host.scheme == "unix":
        unix = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            unix.connect(host.address)
        except BaseException:
            unix.close()
            raise
        return unix
    if host.scheme == "ssh":
        from barque.client import ssh

        return ssh.connect(host.address)
    if host.tls is not None:
        from barque.client import tls

        return tls.connect(host, host.tls)
    return open_tcp(host, tunnel=tunnel)


def open_tcp(host: Host, *, tunnel: bool) -> Stream:
    """To the daemon, or to the proxy on the way to it, with a `tunnel` through that."""
    if host.proxy is None:
        return _dial(*host.address)
    raw = _dial(*host.proxy.address)
    if tunnel:
        try:
            host.proxy.tunnel(raw, host.address)
        except BaseException:
            raw.close()
            raise
    return raw


def _dial(name: str, port: int) -> Stream:
    failure = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, kind, protocol, _, address in _socket.getaddrinfo(
        name, port, 0, _socket.SOCK_STREAM
    ):
        tcp = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            tcp.connect(address)
            tcp.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            return tcp
        except OSError as error:
            tcp.close()
            failure = error
    raise failure


class Connection:
    """One request after the other; `answer` belongs to the last."""

    __slots__ = ("_relay", "_stream", "answer", "host", "used")

    def __init__(self, host: Host, *, tunnel: bool = False) -> None:
        """Raises OSError when nobody listens. `tunnel`: it will become a raw stream."""
        self.host = host
        self._relay = None if tunnel or host.tls is not None else host.proxy
        self._stream = open_stream(host, tunnel=tunnel)
        self.answer = http.Answer("")
        self.used = False  # an answer has been read from it already

    def send(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes | Iterable[bytes | OpenFile] | None,
    ) -> None:
        """Send one request; an iterable body goes out in chunks."""
        self.answer = http.Answer(method)
        whole = b""
        if isinstance(body, bytes):
            headers = [*headers, ("Content-Length", str(len(body)))]
            whole = body
        elif body is not None:
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        elif method == "POST":
            headers = [*headers, ("Content-Length", "0")]
        if self._relay is not None:
            headers = [*headers, *self._relay.headers]
            target = f"http://{self.host.header}{target}"
        head = http.request_head(method, target, self.host.header, headers)
        if len(whole) > SENT_AT_ONCE_BYTES:
            self._stream.sendall(head)
            self._send_while_taken(whole)
        else:
            self._stream.sendall(head + whole)
        if body is not None and not isinstance(body, bytes):
            self._send_chunks(body)

    def _send_while_taken(self, body: bytes) -> None:
        """As with chunks: who refuses early says why."""
        try:
            self._stream.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _send_chunks(self, pieces: Iterable[bytes | OpenFile]) -> None:
        """An early refusal closes our sending side: the answer says why, so it is read instead."""
        try:
            for piece in pieces:
                if not isinstance(piece, bytes):
                    self._send_file(piece)
                elif piece:
                    self._stream.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._stream.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _send_file(self, piece: OpenFile) -> None:
        """One chunk that is a file's content: by sendfile(2) where nothing encrypts it."""
        if self.host.tls is not None:
            for part in piece.chunks():
                self._stream.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            return
        self._stream.sendall(b"%x\r\n" % piece.size)
        left = piece.size
        while left:
            sent = posix.sendfile(self._stream.fileno(), piece.fd, None, min(left, 1 << 30))
            if not sent:  # it shrank meanwhile: zeros keep the archive whole
                sent = min(left, RECEIVE_BYTES)
                self._stream.sendall(bytes(sent))
            left -= sent
        self._stream.sendall(b"\r\n")

    def pump(self) -> None:
        """Receive once. Raises Unavailable when the answer breaks off."""
        try:
            data = self._stream.recv(RECEIVE_BYTES)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        self.answer.feed(data)

    def read_head(self) -> http.Answer:
        while not self.answer.status:
            self.pump()
        self.used = True
        return self.answer

    def read_pieces(self) -> Iterator[bytes]:
        """The body as it comes, to its end."""
        while True:
            piece = self.answer.take()
            if piece:
                yield piece
            elif self.answer.done:
                return
            else:
                self.pump()

    def hijack(self) -> tuple[Stream, bytes]:
        """The socket as a raw stream, and the bytes that have come; the caller closes it."""
        return self._stream, self.answer.hijack()

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self._stream.close()

    @property
    def open(self) -> bool:
        return self._stream.fileno() >= 0

    def break_off(self) -> None:
        """End both directions at once: another thread that reads or writes finds the end."""
        try:
            copy = _socket.socket(fileno=posix.dup(self._stream.fileno()))
        except OSError:
            return  # it is closed
        try:
            copy.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the daemon was faster
        finally:
            copy.close()
