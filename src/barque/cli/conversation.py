"""The loop behind run, attach, start -a and exec: standard streams here, one connection there.

    stdin ──> [detach keys] ──> connection ──> [frames] ──> stdout, stderr
                                    signals ──> on_signal

One thread, one poll. Nothing is held back: while stdout cannot take more, stdin still flows, and
the other way round.
"""

from __future__ import annotations

import posix
import select

from barque.api.frames import STDERR, FrameReader
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.cli.signals import Signals
    from barque.client.connection import Stream

READ_BYTES = 64 << 10
RECEIVE_BYTES = 256 << 10
PIPE_BUF = 4096  # what a writable pipe takes without blocking, pipe(7)
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_SHUT_WR = 1
_CONTROL = {f"ctrl-{chr(96 + n)}": n for n in range(1, 27)} | {
    "ctrl-@": 0,
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
}


def detach_sequence(text: str) -> bytes:
    """ "ctrl-p,ctrl-q" as the bytes a terminal sends. Raises InvalidArgument."""
    keys = bytearray()
    for name in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(name) == 1:
            keys += name.encode()
        elif name in _CONTROL:
            keys.append(_CONTROL[name])
        else:
            from barque import errors

            raise errors.InvalidArgument(f"invalid detach keys ({text}): unknown key '{name}'")
    return bytes(keys)


class Escape:
    """Looks for the detach keys in what is typed; a beginning of them is held back at first."""

    __slots__ = ("_keys", "_seen", "found")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """What goes on to the container."""
        if not self._keys:
            return data
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self.found = True
                    break
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        return bytes(passed)


class _Outlet:
    """Standard output or error: what it cannot take now is kept, in order."""

    __slots__ = ("_direct", "fd", "pending")

    def __init__(self, fd: int, direct: bool) -> None:
        self.fd = fd
        self.pending = b""
        self._direct = direct  # a plain blocking write holds up nothing that matters

    def put(self, piece: bytes | memoryview) -> None:
        if self._direct:
            terminal.write(self.fd, piece)
        else:
            self.pending += piece

    def flush(self) -> None:
        """One write; the poll has said that this much does not block."""
        piece = self.pending[:PIPE_BUF]
        terminal.write(self.fd, piece)
        self.pending = self.pending[PIPE_BUF:]


class Conversation:
    """One attached session. `run` returns True when the user has detached, False at the end."""

    def __init__(
        self,
        stream: Stream,
        early: bytes,
        *,
        tty: bool,
        stdin: bool,
        detach_keys: bytes = b"",
        signals: Signals | None = None,
        on_signal: Callable[[int], None] | None = None,
        outputs: bool = True,
    ) -> None:
        self._stream = stream
        self._early = early
        self._frames = None if tty else FrameReader()
        self._stdin = stdin
        self._escape = Escape(detach_keys)
        self._signals = signals
        self._on_signal = on_signal
        self._outputs = outputs
        self._outlets = (_Outlet(terminal.STDOUT, not stdin), _Outlet(terminal.STDERR, not stdin))
        self._typed = b""  # on its way to the container
        self._half_closed = False
        self._poll = select.poll()
        self._masks: dict[int, int] = {}

    def run(self) -> bool:
        self._stream.setblocking(False)
        if self._early:
            self._received(self._early)
        if self._signals is not None:
            self._watch(self._signals.fileno(), select.POLLIN)
        while True:
            self._choose()
            for fd, _ in self._poll.poll():
                if fd == self._stream.fileno():
                    if not self._serve_connection():
                        self._drain()
                        return False
                elif fd == terminal.STDIN:
                    self._read_stdin()
                elif self._signals is not None and fd == self._signals.fileno():
                    self._take_signals()
                else:
                    self._outlets[fd == terminal.STDERR].flush()
            if self._escape.found:
                return True
            if self._half_closed and not self._outputs:
                return False

    def _watch(self, fd: int, mask: int) -> None:
        if self._masks.get(fd, 0) == mask:
            return
        self._masks[fd] = mask
        if mask:
            self._poll.register(fd, mask)
        else:
            self._poll.unregister(fd)

    def _choose(self) -> None:
        waiting = False
        for outlet in self._outlets:
            self._watch(outlet.fd, select.POLLOUT if outlet.pending else 0)
            waiting = waiting or len(outlet.pending) > RECEIVE_BYTES
        mask = 0 if waiting else select.POLLIN
        self._watch(self._stream.fileno(), mask | (select.POLLOUT if self._typed else 0))
        self._watch(terminal.STDIN, select.POLLIN if self._stdin and not self._typed else 0)

    def _serve_connection(self) -> bool:
        """Send and receive what goes without waiting; False at the end of the output."""
        if self._typed:
            self._send()
        if not self._masks[self._stream.fileno()] & select.POLLIN:
            return True
        try:
            data = self._stream.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""  # reset: the daemon has gone, and the container's state tells the rest
        if data:
            self._received(data)
        return bool(data)

    def _send(self) -> None:
        try:
            self._typed = self._typed[self._stream.send(self._typed) :]
        except BlockingIOError:
            return
        except OSError:
            self._typed, self._stdin = b"", False  # nobody reads stdin any more
            return
        if not self._typed and not self._stdin:
            self._half_close()

    def _read_stdin(self) -> None:
        try:
            data = posix.read(terminal.STDIN, READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._stdin = False
            self._half_close()
            return
        self._typed = self._escape.feed(data)
        if self._typed:
            self._send()

    def _half_close(self) -> None:
        self._half_closed = True
        try:
            self._stream.shutdown(_SHUT_WR)
        except OSError:
            pass

    def _received(self, data: bytes) -> None:
        if self._frames is None:
            self._outlets[0].put(data)
            return
        for stream, piece in self._frames.runs(data):
            self._outlets[stream == STDERR].put(piece)

    def _take_signals(self) -> None:
        if self._signals is not None and self._on_signal is not None:
            for number in self._signals.take():
                self._on_signal(number)

    def _drain(self) -> None:
        for outlet in self._outlets:
            terminal.write(outlet.fd, outlet.pending)
            outlet.pending = b""
