"""A container process's terminal, made from the container's own devpts without trusting a path.

The slave comes from the kernel (TIOCGPTPEER), so a swapped /dev/pts/N changes nothing
(CVE-2025-52565); what is mounted at /dev/console is that descriptor.
"""

from __future__ import annotations

import os
import stat

from barque.errors import Forbidden
from barque.linux import tty
from barque.linux.fs import DEVPTS_SUPER_MAGIC, filesystem_magic, open_in_root
from barque.runc import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Process
    from barque.runc.channel import Channel

FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
PTMX = os.makedev(5, 2)
MODE = 0o620


def find_devpts(root: int) -> int:
    """The container's devpts, below its root directory; -1: there is none."""
    try:
        directory = open_in_root(root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return -1
    if filesystem_magic(directory) != DEVPTS_SUPER_MAGIC:
        os.close(directory)
        return -1
    return directory


def open_terminal(devpts: int, process: Process) -> tuple[int, int]:
    """Master and terminal; `devpts` -1 takes the host's (before the root has changed)."""
    if devpts >= 0:
        master = os.open("ptmx", FLAGS, dir_fd=devpts)
    else:
        master = os.open("/dev/pts/ptmx", FLAGS)
    found = os.fstat(master)
    genuine = stat.S_ISCHR(found.st_mode) and found.st_rdev == PTMX
    if not genuine or filesystem_magic(master) != DEVPTS_SUPER_MAGIC:
        os.close(master)
        raise Forbidden("/dev/pts/ptmx is not what makes terminals")
    tty.unlock(master)
    terminal = tty.open_peer(master)
    if process.console_size is not None:
        tty.set_window_size(terminal, *process.console_size)
    os.fchown(terminal, process.uid, -1)
    os.fchmod(terminal, MODE)
    return master, terminal


def take(terminal: int) -> None:
    """Make the terminal this session's own, and its standard input, output and error."""
    for fd in (0, 1, 2):
        os.dup2(terminal, fd)
    if terminal > 2:
        os.close(terminal)
    tty.set_controlling_terminal(0)


def hand_over(to: Channel, master: int) -> None:
    to.send(channel.CONSOLE, "/dev/ptmx", master)
    os.close(master)
