"""Ends of a process's streams: what is read from it, and what is written to it or on from it."""

from __future__ import annotations

import fcntl
import os
import termios

from barque.shim.loop import PASSING, READ, WRITE, Loop, Pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

CHUNK_BYTES: Final = 1 << 16
HIGH_WATER_BYTES: Final = 1 << 17


class Source:
    """The end of a pipe, or a terminal's master, that a process's output is read from.

    `ended` is done after the last byte. Held back it is not read, and the process will block.
    """

    def __init__(self, loop: Loop, fd: int, received: Callable[[bytes], None]) -> None:
        self.ended = Pending()
        self._loop = loop
        self._fd = fd
        self._received = received
        self._held = False
        os.set_blocking(fd, False)
        loop.watch_owned(fd, self._ready)

    def save(self) -> int | None:
        """Its descriptor, or -1 at its end; None while it is held back."""
        if self.ended.done:
            return -1
        return None if self._held else self._fd

    def hold(self, held: bool) -> None:
        if held == self._held or self.ended.done:
            return
        self._held = held
        if held:
            self._loop.unwatch(self._fd)  # a hang-up would be reported without being asked for
        else:
            self._loop.watch(self._fd, READ, self._ready)

    def _ready(self, events: int) -> None:
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except OSError as error:
            if error.errno in PASSING:
                return
            data = b""  # EIO: nobody has the terminal open any more
        if data:
            if len(data) == CHUNK_BYTES:
                self._loop.flood.full_read()
            self._received(data)
        else:
            self.close()

    def drain(self) -> None:
        """Read what is there now, also when held back: the writer has ended, so this is all of it
        (but for what other holders of the pipe write later)."""
        if self.ended.done:
            return
        here = bytearray(4)
        fcntl.ioctl(self._fd, termios.FIONREAD, here)
        rest = int.from_bytes(here, "little")
        while rest > 0 and not self.ended.done:
            try:
                data = os.read(self._fd, min(rest, CHUNK_BYTES))
            except OSError:
                break
            if not data:
                break
            rest -= len(data)
            self._received(data)

    def close(self) -> None:
        if self.ended.done:
            return
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self.ended.set()


class Writer:
    """Bytes to a descriptor that may not take them at once; in memory until it does.

    `caught_up` is called when the queue has become empty. A broken descriptor swallows everything.
    """

    def __init__(self, loop: Loop, fd: int, caught_up: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._fd = fd
        self._queue = bytearray()
        self._closing = False
        self.caught_up = caught_up
        os.set_blocking(fd, False)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def closed(self) -> bool:
        return self._fd < 0 or self._closing

    def save(self) -> int | None:
        """Its descriptor, or -1 when it is closed; None while something is queued."""
        return None if self._queue else self._fd

    def write(self, data: bytes) -> bool:
        """False: enough is queued, wait for `caught_up` before writing more."""
        if self.closed:
            return True
        if not self._queue:
            data = data[self._take(data) :]
            if not data or self._fd < 0:
                return True
            self._loop.watch(self._fd, WRITE, self._ready)
        self._queue += data
        return len(self._queue) < HIGH_WATER_BYTES

    def _take(self, data: bytes | bytearray) -> int:
        """How much the descriptor takes now; all of it, once it is broken."""
        try:
            return os.write(self._fd, data)
        except OSError as error:
            if error.errno in PASSING:
                return 0
            self._close()
            return len(data)

    def _ready(self, events: int) -> None:
        del self._queue[: self._take(self._queue)]
        if self._queue:
            return
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
        if self._closing:
            self._close()
        if self.caught_up is not None:
            self.caught_up()

    def close(self) -> None:
        """Close once the queue is written."""
        self._closing = True
        if not self._queue:
            self._close()
        else:
            self._loop.linger(self)

    def abandon(self) -> None:
        """Close now; what is queued is lost."""
        self._queue.clear()
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._loop.linger_no_more(self)


class FileWriter:
    """Bytes to a regular file or device: it always takes them, or they are lost."""

    queued = 0

    def __init__(self, path: str, fd: int = -1) -> None:
        """Raises OSError when the file cannot be opened for appending. `fd`: it is open already."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644) if fd < 0 else fd

    def save(self) -> int | None:
        return self._fd

    def write(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    abandon = close
