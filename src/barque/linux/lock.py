"""A lock on a file, held by one process for as long as it lives. flock(2).

The lock is the open file's and not the process's: a child that was forked and has not yet executed
its program keeps it for a moment after its parent was killed. So one that a dead process took is
waited for; one that a living process took is refused at once.
"""

from __future__ import annotations

import fcntl
import os
import time

from barque.errors import Conflict

DEAD_HOLDER_S = 10.0
EXIT_TAKEN = 75  # of a program that gave way: EX_TEMPFAIL of sysexits.h
POLL_S = 0.01


class Taken(Conflict):
    """Another process has it."""


def take(path: str, refusal: str) -> int:
    """A descriptor that holds the lock of the file `path`, which is made. Raises Taken."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + DEAD_HOLDER_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline or _taken_by_living(fd):
                os.close(fd)
                raise Taken(refusal) from None
        except BaseException:
            os.close(fd)
            raise
        time.sleep(POLL_S)


def _taken_by_living(fd: int) -> bool:
    """Whether who took the lock of this file lives. proc_locks(5)."""
    inode = os.fstat(fd).st_ino
    with open("/proc/locks", "rb") as file:
        for line in file:
            fields = line.split()
            if fields[1] == b"FLOCK" and int(fields[5].rpartition(b":")[2]) == inode:
                return _lives(int(fields[4]))
    return False  # let go of meanwhile


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
