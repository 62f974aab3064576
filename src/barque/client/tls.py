"""TLS to a daemon: imported only when asked for, `ssl` costs as much as the whole command.

The records go through buffers of our own: only so can one direction be closed while the other goes
on. The end of stdin is `close_notify`, and the container's last output still comes.
"""

from __future__ import annotations

import posix
import ssl

from barque import errors
from barque.client.connection import open_tcp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.client.connection import Host, Stream, Tls

RECEIVE_BYTES = 64 << 10


def connect(host: Host, options: Tls) -> TlsStream:
    """Raises OSError (ssl.SSLError is one), InvalidArgument for files that cannot be used."""
    for path in filter(None, (options.ca, options.cert, options.key)):
        if not posix.access(path, posix.R_OK):
            raise errors.InvalidArgument(f"unable to resolve docker endpoint: cannot read {path}")
    try:
        context = _context(options)
    except OSError as error:  # ssl's own, which does not name the file
        files = ", ".join(filter(None, (options.ca, options.cert, options.key)))
        reason = f"invalid TLS files ({files}): {error.strerror or error}"
        raise errors.InvalidArgument(f"unable to resolve docker endpoint: {reason}") from None
    raw = open_tcp(host, tunnel=True)
    try:
        return TlsStream(raw, context, host.address[0])
    except BaseException:
        raw.close()
        raise


def _context(options: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca:
        context.load_verify_locations(options.ca)
    else:
        context.load_default_certs()
    if options.cert:
        context.load_cert_chain(options.cert, options.key or None)
    return context


class TlsStream:
    """A `Stream` whose bytes are encrypted on their way over `raw`."""

    def __init__(self, raw: Stream, context: ssl.SSLContext, name: str) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._unsent = b""  # encrypted, not yet taken by the kernel
        self._handshake()

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._raw.sendall(self._outgoing.read())
                self._receive()
            else:
                self._raw.sendall(self._outgoing.read())
                return

    def _receive(self) -> None:
        data = self._raw.recv(RECEIVE_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def sendall(self, data: bytes, /) -> None:
        self._tls.write(data)
        self._raw.sendall(self._unsent + self._outgoing.read())
        self._unsent = b""

    def send(self, data: bytes, /) -> int:
        """Takes all of `data`, or raises BlockingIOError while earlier bytes wait."""
        if self._unsent:
            self._flush()
        self._tls.write(data)
        self._unsent = self._outgoing.read()
        try:
            self._flush()
        except BlockingIOError:
            pass  # kept: the next call goes on with it
        return len(data)

    def _flush(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._raw.send(self._unsent) :]

    def recv(self, size: int, /) -> bytes:
        """All that has been decrypted, at least one byte; b"" at the end."""
        while True:
            pieces = []
            try:
                while piece := self._tls.read(size):
                    pieces.append(piece)
                return b"".join(pieces)
            except ssl.SSLWantReadError:
                if pieces:
                    return b"".join(pieces)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b"".join(pieces)
            self._receive()

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more will be sent; reading goes on."""
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass  # the peer's own end comes later, or it has gone
        self._raw.setblocking(True)
        self._raw.sendall(self._unsent + self._outgoing.read())
        self._unsent = b""
        self._raw.setblocking(False)

    def fileno(self) -> int:
        return self._raw.fileno()

    def setblocking(self, flag: bool, /) -> None:
        self._raw.setblocking(flag)

    def close(self) -> None:
        self._raw.close()
