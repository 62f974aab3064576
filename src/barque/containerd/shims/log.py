"""A shim's log: the fifo `log` in its bundle, which containerd reads and puts in its own log.

Source: containerd, core/runtime/v2/README.md ("Logging"): the shim opens it for writing, so it must
be there, and have a reader, before the shim starts.
"""

from __future__ import annotations

import asyncio
import logging
import os

from barque.containerd.shims.bundle import Bundle

READ_BYTES = 1 << 16
LINE_BYTES_MAX = 1 << 14

log = logging.getLogger(__name__)


class ShimLog:
    """Owns the reading end. Opened for both directions, so that the writer may come and go."""

    def __init__(self, bundle: Bundle) -> None:
        path = bundle.path / "log"
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass
        self._name = f"{bundle.namespace}/{bundle.id}"
        self._rest = b""
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_BYTES_MAX]
        for line in lines:
            text = line[:LINE_BYTES_MAX].decode(errors="replace")
            log.debug("shim of %s: %s", self._name, text)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
