"""Commands that a caller with its own loop may run in its own process: they wait for nobody.

`start` writes one byte, `delete` removes what a container that has ended leaves. A process for each
costs more than the command: the fork, the end of it, and a copy of each page that it writes to.
What could take its time, or does more than this process may (hooks, systemd, a lock that is held,
a process that still dies) is left: the command as such does all of it, and says what is wrong.
"""

from __future__ import annotations

import fcntl
import os

from barque.errors import BarqueError
from barque.runc import lifecycle
from barque.runc.container import CREATED, STOPPED, Container, load, unlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.paths import Paths

NAMES = ("start", "delete")


def run(name: str, identifier: str, paths: Paths) -> bool:
    """Do the command, without flags of its own, now. False: it has to be run, as it is not done;
    what was begun is no hindrance."""
    try:
        container = load(paths, identifier)
        lock = _lock(container)
        try:
            return _start(container) if name == "start" else _delete(container)
        finally:
            unlock(lock)
    except (BarqueError, OSError):
        return False


def _lock(container: Container) -> int:
    """`Container.lock` without waiting: BlockingIOError when a command works on it."""
    fd = os.open(container.paths.container(container.id), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _start(container: Container) -> bool:
    if os.environ.get("NOTIFY_SOCKET") or container.status() != CREATED:
        return False
    if lifecycle.hooks_of(container, "poststart"):
        return False
    lifecycle.release(container, until_executed=False)
    return True


def _delete(container: Container) -> bool:
    if container.unit or container.status() != STOPPED or lifecycle.may_have_rdt_groups(container):
        return False
    if lifecycle.hooks_of(container, "poststop") or container.cgroup.pids():
        return False
    if not container.cgroup.remove_now():
        return False
    container.forget()
    return True
