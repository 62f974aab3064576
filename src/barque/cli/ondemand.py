"""A daemon when there is none: `barque` starts `barqued` and waits for its socket.

It is told `--on-demand`: to leave when it is idle and has nothing to look after.
"""

from __future__ import annotations

import _socket
import os
import time

from barque import errors
from barque.api.versions import DEFAULT_SOCKET, ON_DEMAND_LOG

READY_LIMIT_S = 20.0
OTHER_LIMIT_S = 3.0  # for the socket of another daemon, when ours has ended
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
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.makedirs(os.path.dirname(ON_DEMAND_LOG), mode=0o755, exist_ok=True)
        log = os.open(ON_DEMAND_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
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
            # Another command may have started one at the same moment: then ours has left, and
            # that one's socket is about to appear.
            deadline = min(deadline, time.monotonic() + OTHER_LIMIT_S)
            daemon = os.getpid()
        time.sleep(POLL_S)
    raise errors.Unavailable(f"barqued did not become ready: {_last_words()}")


def _last_words() -> str:
    """The end of the daemon's log."""
    try:
        with open(ON_DEMAND_LOG, encoding="utf-8", errors="replace") as file:
            lines = file.read().strip().split("\n")
    except OSError as error:
        return f"{ON_DEMAND_LOG}: {(error.strerror or '').lower()}"
    return lines[-1] or f"see {ON_DEMAND_LOG}"


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
