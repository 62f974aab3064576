"""The daemon's connection to the proxy of published ports: `barque.network.proxy.server`.

Synchronous: exchanges are rare, and made in a thread. The proxy outlives the daemon; one that
starts finds it by its socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.outliving import started
from barque.network.ports import HostPort
from barque.network.proxy.server import VERSION

TIMEOUT_S = 30.0
ANSWER_BYTES = 1 << 16
REAP_TIMEOUT_S = 2.0


class ProxyLink:
    """`directory` gets the control socket and the proxy's log."""

    def __init__(self, directory: Path, argv: Sequence[str]) -> None:
        self._address = directory / "proxy.sock"
        self._log = directory / "proxy.log"
        self._argv = list(argv)
        self._opened: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1  # readable when the proxy has ended; -1 without one

    def find(self) -> list[str]:
        """Connect to a proxy that is there and speaks our version; the ports that it serves."""
        try:
            self._connect()
            answer, _ = self._exchange({"op": "hello"})
            if answer["version"] == VERSION:
                self.pidfd = os.pidfd_open(answer["pid"])
                return list(answer["ports"])
            self._exchange({"op": "leave"})
        except (OSError, errors.BarqueError):  # none, or one that was just killed
            pass
        self.close()
        return []

    def put(self, port: HostPort, opened: socket.socket, target: tuple[str, int]) -> None:
        """Let the proxy, started if there is none, serve `port`, whose socket is `opened`."""
        request = {"op": "put", "port": str_of(port), "target": target}
        if self._opened is None:
            self.find()
        if self._opened is None:
            self._process = started(self._argv, self._address, self._log)
            self._connect()
            answer, _ = self._exchange({"op": "hello"})
            self.pidfd = os.pidfd_open(answer["pid"])
        self._exchange(request, opened.fileno())

    def give(self, port: HostPort) -> socket.socket:
        """A socket that the proxy serves; it goes on to."""
        _, fd = self._exchange({"op": "give", "port": str_of(port)})
        return socket.socket(fileno=fd)

    def drop(self, port: str) -> None:
        self._exchange({"op": "drop", "port": port})

    def close(self) -> None:
        """Leave the proxy alone, if it is there. Safe to call twice."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def reap(self) -> None:
        """Take the exit status of a proxy that has ended, or is about to."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(REAP_TIMEOUT_S)
                self._process = None

    def _connect(self) -> None:
        self.close()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(TIMEOUT_S)
            opened.connect(str(self._address))
        except BaseException:
            opened.close()
            raise
        self._opened = opened

    def _exchange(self, request: Mapping[str, Any], fd: int = -1) -> tuple[dict[str, Any], int]:
        """The answer to a request, and the descriptor that came with it.

        Raises OSError when the proxy has gone, BarqueError with its own words.
        """
        if self._opened is None:
            raise ConnectionResetError("the proxy of published ports is not there")
        line = json.dumps(request).encode() + b"\n"
        socket.send_fds(self._opened, [line], [fd] if fd >= 0 else [])
        text, given = b"", -1
        while not text.endswith(b"\n"):
            part, fds, _, _ = socket.recv_fds(self._opened, ANSWER_BYTES, 1)
            given = fds[0] if fds else given
            if not part:
                raise ConnectionResetError("the proxy of published ports went away")
            text += part
        answer = json.loads(text)
        if "error" in answer:
            raise errors.BarqueError(f"proxy of published ports: {answer['error']}")
        return answer, given


def str_of(port: HostPort) -> str:
    """What the proxy calls a port."""
    return f"{port.protocol} {port}"
