"""A daemon when there is none: `barque` starts `barqued` and waits for its socket.

It is told `--on-demand`: to leave when it is idle and has nothing to look after.
"""

from __future__ import annotations

import _socket
import os
import time

from barque import errors
from barque.api.versions import DEFAULT_SOCKET

READY_LIMIT_S = 20.0
POLL_S = 0.005  # how often the socket is tried: connect to a path that is not there costs 5 us


def start() -> bool:
    """Start `barqued` detached and wait until it listens; False where only root could.

    Raises Unavailable when it ended or did not listen in time.
    """
    if os.geteuid() != 0:
        return False
    from barque.program import command

    argv = command("barqued", "--on-demand")
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(argv, write)
    os.close(write)
    os.waitpid(pid, 0)
    daemon = int(os.read(read, 32) or b"0")
    os.close(read)
    _await(daemon)
    return True


def _become(argv: list[str], report: int) -> None:
    """In the child: leave the caller's session and family, then be the daemon."""
    try:
        os.setsid()
        if pid := os.fork():
            os.write(report, b"%d" % pid)
            os._exit(0)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, report)
        os.closerange(report + 1, 256)
        os.execv(argv[0], argv)
    finally:
        os._exit(127)


def _await(daemon: int) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        if _listens():
            return
        if not _alive(daemon):
            # Another command may have started one at the same moment: then ours leaves, and that
            # one's socket is about to appear.
            time.sleep(0.3)
            if _listens():
                return
            raise errors.Unavailable(
                "barqued ended before it was ready: start `barqued` by hand to see why"
            )
        time.sleep(POLL_S)
    raise errors.Unavailable(f"barqued was not ready within {READY_LIMIT_S:.0f} seconds")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def _listens() -> bool:
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        probe.connect(DEFAULT_SOCKET)
    except OSError:
        return False
    finally:
        probe.close()
    return True
