"""Locks of files, whoever took them lives or not."""

import os
import signal
import time
from pathlib import Path

import pytest

from barque.errors import Conflict
from barque.linux import lock


def test_one_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    fd = lock.take(path, "taken")
    with pytest.raises(Conflict, match="taken"):
        lock.take(path, "taken")
    os.close(fd)
    os.close(lock.take(path, "taken"))


def test_a_child_of_a_dead_holder_is_waited_for(tmp_path: Path) -> None:
    """A daemon was killed between a fork and its child's exec."""
    path = str(tmp_path / "lock")
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        lock.take(path, "taken")
        if os.fork() == 0:  # has the lock too, and no exec closes it
            os.write(write, b"%d\n" % os.getpid())
            time.sleep(0.5)
            os._exit(0)
        signal.pause()
    os.read(read, 20)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    os.close(lock.take(path, "taken"))
    os.close(read)
    os.close(write)
