"""Unix sockets that one server at a time listens on."""

from __future__ import annotations

import os
import socket
import stat

from barque.errors import Conflict


def listener(path: str) -> socket.socket:
    """A bound socket at `path`, mode 0600; a socket file that nobody listens on is replaced.

    Raises Conflict when another process listens there, or when it is no socket.
    """
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(path)
        os.chmod(path, 0o600)  # before listen(2): nobody can have connected
    except OSError:
        made.close()
        raise
    return made


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Conflict(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise Conflict(f"another process listens at {path}")
