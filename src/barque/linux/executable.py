"""The file that this process runs, as /proc/PID/exe shows it, put away for an empty sealed one.

A process of a container may reach the binary its ancestor ran through /proc/PID/exe
(CVE-2019-5736). To execute a sealed copy of the interpreter (`barque.linux.memfd`) starts it a
second time; here the process that runs already lets go of the file instead: each of its mappings
is replaced by the same bytes in anonymous memory, and the kernel is told that the executable is
another file: prctl(2), PR_SET_MM_MAP, which refuses while a mapping of the old one is left.
"""

from __future__ import annotations

import ctypes
import os

from barque.linux.libc import libc, prototype, raise_errno
from barque.linux.memfd import create, is_sealed, seal

PR_SET_MM = 35
PR_SET_MM_MAP = 14
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE = 0x02, 0x20, 0x8000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
NAME_FIELD = 5  # of a line of /proc/self/maps
# the fields of struct prctl_mm_map that /proc/self/stat has, by their numbers in proc(5)
STAT_FIELDS = {
    "start_code": 26,
    "end_code": 27,
    "start_stack": 28,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
    "arg_start": 48,
    "arg_end": 49,
    "env_start": 50,
    "env_end": 51,
}
ORDER = (
    *("start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack"),
    *("arg_start", "arg_end", "env_start", "env_end", "auxv"),
)


class _Map(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ORDER),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


_prctl = prototype("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_mprotect = prototype("mprotect", ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)


def put_away() -> bool:
    """Run from a sealed memory file from here on; False: this kernel or this user cannot.

    For a process with one thread. What was done before it turned out so does no harm.
    """
    try:
        for first, end, protection in mappings(os.fsencode(os.readlink("/proc/self/exe"))):
            _replace(first, end - first, protection)
        _become_other()
    except (OSError, ValueError):
        return False
    return is_sealed()


def mappings(path: bytes) -> list[tuple[int, int, int]]:
    """First address, end and protection of each mapping of the file `path`. proc_pid_maps(5)."""
    with open("/proc/self/maps", "rb", buffering=0) as file:
        lines = file.readall().split(b"\n")
    found = []
    for line in lines:
        fields = line.split(None, NAME_FIELD)
        if len(fields) > NAME_FIELD and fields[NAME_FIELD] == path:
            first, end = fields[0].split(b"-")
            found.append((int(first, 16), int(end, 16), _protection(fields[1])))
    return found


def _protection(letters: bytes) -> int:
    bits = (PROT_READ, PROT_WRITE, PROT_EXEC)
    return sum(bit for bit, letter in zip(bits, letters[:3], strict=True) if letter != ord("-"))


def _replace(address: int, length: int, protection: int) -> None:
    """The same bytes at the same place, of no file. One call moves them there: what runs from
    these very pages goes on."""
    if not protection & PROT_READ:
        raise ValueError("a mapping that cannot be copied")
    mmap, mremap = _function("mmap", 6), _function("mremap", 5)
    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
    copy = mmap(0, length, PROT_READ | PROT_WRITE, kind, -1, 0)
    if copy == -1:
        raise_errno("mmap")
    ctypes.memmove(copy, address, length)
    if _mprotect(copy, length, protection) < 0:
        raise_errno("mprotect")
    if mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, address) != address:
        raise_errno("mremap")


def _function(name: str, arguments: int) -> ctypes._NamedFuncPointer:
    """A function of the C library that takes and returns addresses."""
    function = libc[name]
    function.argtypes = (ctypes.c_ssize_t,) * arguments
    function.restype = ctypes.c_ssize_t
    return function


def _become_other() -> None:
    """Name an empty sealed file to the kernel as the executable; all else stays as it is."""
    with open("/proc/self/stat", "rb", buffering=0) as file:
        raw = file.readall()
    stat = raw[raw.rindex(b")") + 2 :].split()
    values = {name: int(stat[number - 3]) for name, number in STAT_FIELDS.items()}
    fd = create("barque", executable=True)
    try:
        seal(fd)
        wanted = _Map(**values, brk=_function("sbrk", 1)(0), exe_fd=fd)
        size = ctypes.sizeof(wanted)
        if _prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(wanted), size, 0) < 0:
            raise_errno("prctl")
    finally:
        os.close(fd)
