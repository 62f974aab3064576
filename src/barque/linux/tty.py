"""Terminals: window size, the other end of a pseudo terminal, the controlling terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
LARGEST_SIDE = 0xFFFF


def set_window_size(fd: int, rows: int, columns: int) -> None:
    if not (0 <= rows <= LARGEST_SIDE and 0 <= columns <= LARGEST_SIDE):
        raise ValueError(f"window size {columns}x{rows} is out of range")
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def unlock(master: int) -> None:
    """Allow the other end of `master` to be opened."""
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))


def open_peer(master: int) -> int:
    """The other end of `master`, got from the kernel and not by a path."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_controlling_terminal(fd: int) -> None:
    """`fd` becomes the terminal of the calling session leader."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
