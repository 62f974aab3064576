"""Taking a pseudo terminal's master from the runtime, through its `--console-socket`.

Source: runc's terminals document: the runtime connects to the socket and sends one message, with
the master as its one SCM_RIGHTS descriptor. It does not wait for an answer, so the message is
taken after the runtime has ended, and nothing has to be watched.
"""

from __future__ import annotations

import _socket
import os
import struct

from barque.errors import BarqueError
from barque.shim.sockets import listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME_BYTES_MAX: Final = 4096
FD_BYTES: Final = struct.calcsize("i")


class ConsoleSocket:
    """Listens at `path` until `close`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._server = listen(path)

    def take(self) -> int:
        """The master that the runtime, which has ended, sent. Raises BarqueError: it sent none."""
        try:
            fd, _ = self._server._accept()  # type: ignore[attr-defined]
        except OSError as error:
            raise BarqueError(f"the runtime sent no terminal: {error}") from error
        connection = _socket.socket(fileno=fd)
        try:
            connection.setblocking(False)
            return receive(connection)
        except OSError as error:
            raise BarqueError(f"the runtime sent no terminal: {error}") from error
        finally:
            connection.close()

    def close(self) -> None:
        self._server.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass


def receive(connection: _socket.socket) -> int:
    """The one descriptor of the next message. Raises BarqueError when it has none."""
    space = _socket.CMSG_SPACE(FD_BYTES)
    _, ancillary, _, _ = connection.recvmsg(NAME_BYTES_MAX, space, _socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS and len(data) >= FD_BYTES:
            fd: int = struct.unpack_from("i", data)[0]
            return fd
    raise BarqueError("the runtime sent no terminal: message without a descriptor")
