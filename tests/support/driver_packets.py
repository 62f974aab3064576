"""How a driver gets a command: one packet of JSON, with the descriptors that it is to have.

For programs that start isolated and have nothing of pytest: the standard library only.
"""

from __future__ import annotations

import _socket
import os
import struct

MOST_FDS = 8


def receive(socket: _socket.socket) -> tuple[bytes, list[int]]:
    """The packet, empty at the end, and its descriptors."""
    data, ancillary, _, _ = socket.recvmsg(65536, _socket.CMSG_SPACE(4 * MOST_FDS))
    fds: list[int] = []
    for _, _, content in ancillary:
        fds += struct.unpack(f"{len(content) // 4}i", content)
    return data, fds


def take_places(fds: list[int]) -> None:
    """Make `fds` the descriptors 0, 1, 2, ... of this process, which has no others then."""
    high = [os.dup(fd) for fd in fds]  # beyond the numbers they are moved to
    while min(high) < MOST_FDS * 4:
        high = [os.dup(fd) for fd in high]
    os.closerange(3, MOST_FDS * 4)
    for number, fd in enumerate(high):
        os.dup2(fd, number)
