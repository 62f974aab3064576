"""What a socket says of itself beyond Python's own module."""

from __future__ import annotations

import fcntl
import sys
import termios

_INT = bytes(4)


def outgoing(fd: int) -> int:
    """SIOCOUTQ: how much was sent that a local peer has not read, or a TCP peer not acknowledged.

    In the kernel's memory, for a unix socket: 0 is the one exact figure. See unix(7), tcp(7).
    """
    return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, _INT), sys.byteorder)
