"""Unix sockets: listening at mode 0600, accepting trusted peers, buffered writing."""

from __future__ import annotations

import _socket
import errno
import os
import struct

from barque.shim.loop import ERROR, HANG_UP, PASSING, READ, WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

BACKLOG: Final = 1024  # full, it fails clients that do not block
READ_BYTES: Final = 1 << 16
NOBODY_LEFT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid


def listen(path: str, kind: int = _socket.SOCK_STREAM) -> _socket.socket:
    """A non-blocking listening socket at `path`, mode 0600, which must not exist.

    It is bound under another name first, so that nobody sees it before it listens.
    """
    server = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_NONBLOCK)
    hidden = f"{path}~"
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "socket exists already", path)
        server.bind(hidden)
        os.chmod(hidden, 0o600)
        server.listen(BACKLOG)
        os.rename(hidden, path)
    except BaseException:
        server.close()
        if os.path.lexists(hidden):
            os.unlink(hidden)
        raise
    return server


def trusted(fd: int) -> bool:
    """Whether the peer of a connected unix socket is root or the user of this process."""
    peer = _socket.socket(fileno=fd)
    try:
        raw = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS.size)
    finally:
        peer.detach()
    uid: int = CREDENTIALS.unpack(raw)[1]
    return uid in (0, os.geteuid())


class Listener:
    """Accepts on a listening socket; untrusted peers are closed at once.

    Out of descriptors it lets waiting connections go, one by one, with a descriptor that is kept
    for this: a ready listener that nobody accepts from would spin the loop.
    """

    @classmethod
    def restored(
        cls, loop: Loop, saved: tuple[int, int], accepted: Callable[[int], None]
    ) -> Listener:
        """As it was when `save` was called, by a worker that has left."""
        fd, spare = saved
        return cls(loop, _socket.socket(fileno=fd), accepted, spare)

    def __init__(
        self,
        loop: Loop,
        server: _socket.socket,
        accepted: Callable[[int], None],
        spare: int | None = None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._accepted = accepted
        self._spare = _spare() if spare is None else spare
        try:
            loop.watch(server.fileno(), READ, self._ready)
        except BaseException:
            os.close(self._spare)
            raise

    def _ready(self, events: int) -> None:
        try:
            fd, _ = self._server._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionError, InterruptedError):
            return
        except OSError as error:
            if error.errno not in NOBODY_LEFT:
                raise
            self._shed()
            return
        if not trusted(fd):
            os.close(fd)
            return
        os.set_blocking(fd, False)
        self._accepted(fd)

    def _shed(self) -> None:
        if self._spare < 0:
            return
        os.close(self._spare)
        self._spare = -1
        try:
            os.close(self._server._accept()[0])  # type: ignore[attr-defined]
        except OSError:
            pass
        try:
            self._spare = _spare()
        except OSError:
            pass

    def save(self) -> tuple[int, int]:
        return self._server.fileno(), self._spare

    def close(self) -> None:
        self._loop.unwatch(self._server.fileno())
        self._server.close()
        if self._spare >= 0:
            os.close(self._spare)


def _spare() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


class Stream:
    """A connected socket, and its owner: bytes come to `received` (b"" at the peer's end of file),
    bytes to send are queued. `closed` is called once, when the connection has ended or broken."""

    def __init__(
        self,
        loop: Loop,
        fd: int,
        received: Callable[[bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self.fd = fd
        self._loop = loop
        self._received = received
        self._closed = closed
        self._out = bytearray()
        self._reading = True
        self._paused = False
        self._parked = False
        self._finishing = False
        self.drained: Callable[[], None] | None = None
        loop.watch_owned(fd, self._ready)

    @property
    def queued(self) -> int:
        """Bytes not yet taken by the kernel."""
        return len(self._out)

    @property
    def at_rest(self) -> bool:
        """Whether it is open and nothing is under way: its descriptor is all of it."""
        held = self._paused or self._parked or self._finishing or not self._reading
        return self.fd >= 0 and not self._out and not held

    def send(self, data: bytes) -> None:
        if self.fd < 0:
            return
        if not self._out:
            sent = self._write(data)
            if sent == len(data) or self.fd < 0:
                return
            data = data[sent:]
        self._out += data
        self._interest()

    def pause_reading(self, paused: bool) -> None:
        """Bytes wait in the socket while paused, also those of a peer that has gone since."""
        if self._paused != paused and self.fd >= 0:
            self._paused = paused
            if self._parked:
                self._parked = False
                self._loop.watch(self.fd, 0, self._ready)
            self._interest()

    def finish(self) -> None:
        """Close once everything queued is sent."""
        self._finishing = True
        if not self._out:
            self.close()
        else:
            self._loop.linger(self)

    def close(self) -> None:
        if self.fd < 0:
            return
        self._loop.unwatch(self.fd)
        os.close(self.fd)
        self.fd = -1
        self._out.clear()
        self._loop.linger_no_more(self)
        self._closed()

    def _interest(self) -> None:
        if not self._parked:
            reading = self._reading and not self._paused
            self._loop.change(self.fd, READ * reading | WRITE * bool(self._out))

    def _ready(self, events: int) -> None:
        if events & (WRITE | ERROR | HANG_UP) and self._out:
            self._flush()
        if self.fd >= 0 and events & (READ | HANG_UP | ERROR):
            if not self._reading:
                if events & (HANG_UP | ERROR):
                    self.close()  # gone in both directions
            elif not self._paused:
                self._read()
            elif events & (HANG_UP | ERROR):
                self._parked = True  # it would be reported for ever
                self._loop.unwatch(self.fd)

    def _write(self, data: bytes | bytearray) -> int:
        """How much the kernel takes now."""
        try:
            return os.write(self.fd, data)
        except OSError as error:
            if error.errno not in PASSING:
                self.close()
            return 0

    def _flush(self) -> None:
        del self._out[: self._write(self._out)]
        if self._out or self.fd < 0:
            return
        if self._finishing:
            self.close()
            return
        self._interest()
        if self.drained is not None:
            self.drained()

    def _read(self) -> None:
        try:
            data = os.read(self.fd, READ_BYTES)
        except OSError as error:
            if error.errno not in PASSING:
                self.close()
            return
        if not data:
            self._reading = False
            self._interest()
        self._received(data)
