"""`barque-runc` as a process of its own: from the first instruction to `barque.runc.main`.

The executable of a process that containers' processes are forked from must be a sealed one
(invariant 2). Root lets go of the interpreter's file; who may not, or where the kernel does not
know how, executes the program again from a sealed copy, before anything else is loaded.
"""

from __future__ import annotations

import gc
import os

from barque import archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

FORKING = ("create", "run", "exec", "restore")
FREQUENT = ("create", "delete", "exec", "kill", "run", "start", "state")


def main(argv: Sequence[str]) -> NoReturn:
    """Run one command and leave with its exit code. Nothing is tidied up in memory, neither on the
    way (a search for garbage takes longer than a command's own work) nor at the end: all that is
    written is written by then, and the kernel takes the rest back at once."""
    if "events" not in argv:  # follows a container as long as that lives
        gc.disable()
    finder = archive.use("barque-runc", load)
    if any(word in FORKING for word in argv):
        from barque.linux.executable import run_sealed

        run_sealed()
    import barque.runc.main

    for word in argv:
        if word in FREQUENT:
            __import__(f"barque.runc.commands.{word}")
    if finder is not None:
        finder.close()  # its descriptor could be taken for one of the caller's: --preserve-fds
    os._exit(barque.runc.main.main(argv))


def load() -> None:
    """What the commands of a container's life need."""
    for name in ("linux.executable", "runc.main", *(f"runc.commands.{word}" for word in FREQUENT)):
        __import__(f"barque.{name}")
