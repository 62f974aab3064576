"""Sealed memory files, and a sealed copy of the interpreter.

A process of a container may reach the binary its ancestor ran through /proc/PID/exe
(CVE-2019-5736). Where a process cannot let go of that file (`barque.linux.executable`),
`reexec_sealed` makes a copy in memory that nobody can write, and executes the program again from
it.
"""

from __future__ import annotations

import fcntl
import os
import sys

F_ADD_SEALS = 1033
F_GET_SEALS = 1034
F_SEAL_SEAL = 1
F_SEAL_SHRINK = 2
F_SEAL_GROW = 4
F_SEAL_WRITE = 8
SEALED = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE

MFD_EXEC = 0x10  # Linux 6.3; asked for where vm.memfd_noexec would refuse execution
COPY_CHUNK = 1 << 26  # bytes


def create(name: str, *, executable: bool = False) -> int:
    """An empty memory file that can be sealed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if executable:
        try:
            return os.memfd_create(name, flags | MFD_EXEC)
        except OSError:
            pass  # a kernel before 6.3 does not know the flag, and all its memory files execute
    return os.memfd_create(name, flags)


def seal(fd: int) -> None:
    """From here on nobody can change the file."""
    fcntl.fcntl(fd, F_ADD_SEALS, SEALED)


def is_sealed(path: str = "/proc/self/exe") -> bool:
    """Whether `path` is a memory file that nobody can change."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, F_GET_SEALS) & SEALED == SEALED
    except OSError:
        return False  # not a memory file
    finally:
        os.close(fd)


def sealed_copy(path: str) -> int:
    """A sealed, executable copy of the file `path` in memory."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = create("barque", executable=True)
        try:
            while os.sendfile(copy, source, None, COPY_CHUNK):
                pass
            seal(copy)
        except OSError:
            os.close(copy)
            raise
        return copy
    finally:
        os.close(source)


def reexec_sealed() -> None:
    """Execute this program again, same arguments and environment, from a sealed interpreter.

    Returns when it runs from one already. For start-up code with one thread and nothing open. The
    loader finds $ORIGIN through the executed file: a library beside the interpreter is named to it.
    """
    if is_sealed():
        return
    executable = os.readlink("/proc/self/exe")
    copy = sealed_copy("/proc/self/exe")
    environment = dict(os.environb)
    directory = os.path.dirname(os.path.dirname(executable)) + "/lib"
    library = f"{directory}/libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    if b"LD_LIBRARY_PATH" not in environment and os.path.exists(library):
        environment[MARKER] = b"1"
        environment[b"LD_LIBRARY_PATH"] = os.fsencode(directory)
    os.execve(copy, sys.orig_argv, environment)


MARKER = b"BARQUE_SEALED_LIBRARY_PATH"


def forget_library_path() -> None:
    """Take back what `reexec_sealed` added to the environment."""
    if os.environb.pop(MARKER, None) is not None:
        os.environb.pop(b"LD_LIBRARY_PATH", None)
