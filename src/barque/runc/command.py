"""`barque-runc` as a process of its own: from the first instruction to `barque.runc.main`.

The interpreter that a container's process is forked from must be a sealed copy (invariant 2), so
commands that make such processes execute the program again from one, before anything else is
loaded: what that costs is an interpreter's bare start.
"""

from __future__ import annotations

from barque.linux.memfd import forget_library_path, reexec_sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FORKING = ("create", "run", "exec", "restore")


def main(argv: Sequence[str]) -> int:
    if any(word in FORKING for word in argv):
        reexec_sealed()
        forget_library_path()
    import barque.runc.main

    return barque.runc.main.main(argv)
