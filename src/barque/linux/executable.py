"""The file that this process runs, as /proc/PID/exe shows it, put away for an empty sealed one.

A process of a container may reach the binary its ancestor ran through /proc/PID/exe
(CVE-2019-5736). To execute a sealed copy of the interpreter (`barque.linux.memfd`) starts it a
second time; here the process that runs already lets go of the file instead, and the kernel is told
that the executable is another one: prctl(2), PR_SET_MM_MAP, which refuses while a mapping of the
old one is left. What the process may write to becomes anonymous memory; the rest is mapped anew,
the same pages of the same file, through a mount of its own that is read-only and nowhere attached.
"""

from __future__ import annotations

import ctypes
import os

from barque.linux.libc import libc, prototype, raise_errno
from barque.linux.memfd import create, forget_library_path, is_sealed, reexec_sealed, seal
from barque.linux.mount import MOUNT_ATTR_RDONLY, mount_setattr, open_tree

PR_SET_MM = 35
PR_SET_MM_MAP = 14
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_POPULATE = 0x02, 0x10, 0x20, 0x8000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
NAME_FIELD = 5  # of a line of /proc/self/maps
AT_PHDR, AT_PHNUM = 3, 5
PT_LOAD, PT_PHDR = 1, 6
PF_W = 2
ADDRESS_BYTES = 8  # where `_Segment` is what it says
CONTEXT_BYTES = 1 << 13  # a ucontext_t is shorter on every architecture
STACK_BYTES = 1 << 14
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


class _Segment(ctypes.Structure):
    """Elf64_Phdr. elf(5)."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("type", "flags")),
        *((name, ctypes.c_uint64) for name in ("offset", "address", "physical")),
        *((name, ctypes.c_uint64) for name in ("file_size", "size", "alignment")),
    )


class _Context(ctypes.Structure):
    """How a ucontext_t begins."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("link", ctypes.c_void_p),
        ("stack", ctypes.c_void_p),
        ("stack_flags", ctypes.c_int),
        ("stack_size", ctypes.c_size_t),
    )


_prctl = prototype("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)


def run_sealed() -> None:
    """Be a process of which nothing that can be written to is to be had through /proc/PID/exe.

    For start-up code with one thread and nothing open: where `put_away` cannot, the program begins
    anew.
    """
    if not is_sealed() and not put_away():
        reexec_sealed()
    forget_library_path()


def put_away() -> bool:
    """Run from a sealed memory file from here on; False: this kernel or this user cannot.

    For a process with one thread. What was done before it turned out so does no harm.
    """
    if os.geteuid():
        return False
    try:
        written = _written()
        file = _elsewhere()
        try:
            for one in mappings(os.fsencode(os.readlink("/proc/self/exe"))):
                if any(one.first < end and first < one.end for first, end in written):
                    _copy(one)
                else:
                    _map_anew(one, file)
        finally:
            os.close(file)
        _become_other()
    except (OSError, ValueError, AttributeError):  # of a C library that has not these functions
        return False
    return is_sealed()


class Mapping:
    __slots__ = ("end", "first", "offset", "protection")

    def __init__(self, first: int, end: int, offset: int, protection: int) -> None:
        self.first = first
        self.end = end
        self.offset = offset
        self.protection = protection


def mappings(path: bytes) -> list[Mapping]:
    """Where the file `path` is mapped. proc_pid_maps(5)."""
    with open("/proc/self/maps", "rb", buffering=0) as file:
        lines = file.readall().split(b"\n")
    found = []
    for line in lines:
        fields = line.split(None, NAME_FIELD)
        if len(fields) > NAME_FIELD and fields[NAME_FIELD] == path:
            first, end = (int(address, 16) for address in fields[0].split(b"-"))
            found.append(Mapping(first, end, int(fields[2], 16), _protection(fields[1])))
    return found


def _written() -> list[tuple[int, int]]:
    """First address and end of what the loader or the program has written to, be it read-only by
    now (relocations): no longer what the file has."""
    getauxval = _function("getauxval", 1)
    start = getauxval(AT_PHDR)
    segments = (_Segment * getauxval(AT_PHNUM)).from_address(start)
    moved = next((start - one.address for one in segments if one.type == PT_PHDR), None)
    if moved is None or ctypes.sizeof(ctypes.c_void_p) != ADDRESS_BYTES:
        raise ValueError("an executable of another kind")
    return [
        (moved + segment.address, moved + segment.address + segment.size)
        for segment in segments
        if segment.type == PT_LOAD and segment.flags & PF_W
    ]


def _elsewhere() -> int:
    """The executable, open for reading, at another place than where it was started from."""
    tree = open_tree("/proc/self/exe")
    try:
        mount_setattr(tree, attr_set=MOUNT_ATTR_RDONLY)
        return os.open(f"/proc/self/fd/{tree}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tree)


def _protection(letters: bytes) -> int:
    bits = (PROT_READ, PROT_WRITE, PROT_EXEC)
    return sum(bit for bit, letter in zip(bits, letters[:3], strict=True) if letter != ord("-"))


def _map_anew(one: Mapping, file: int) -> None:
    length = one.end - one.first
    kind = MAP_PRIVATE | MAP_FIXED
    if _function("mmap", 6)(one.first, length, one.protection, kind, file, one.offset) == -1:
        raise_errno("mmap")


def _copy(one: Mapping) -> None:
    """The same bytes at the same place, of no file. What is copied has the interpreter's own state:
    nothing of Python may run between the copy and its move to this place."""
    if not one.protection & PROT_READ:
        raise ValueError("a mapping that cannot be copied")
    length = one.end - one.first
    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
    copy = _function("mmap", 6)(0, length, PROT_READ | PROT_WRITE, kind, -1, 0)
    if copy == -1:
        raise_errno("mmap")
    _at_once(
        ("memmove", copy, one.first, length),
        ("mprotect", copy, length, one.protection),
        ("mremap", copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, one.first),
    )


def _at_once(*calls: tuple[str, *tuple[int, ...]]) -> None:
    """Call these functions of the C library with nothing between: each is a context that goes on
    with the next one when it returns. What they return is not known. makecontext(3)."""
    back = ctypes.create_string_buffer(CONTEXT_BYTES)
    following = ctypes.addressof(back)
    kept = []
    for name, *arguments in reversed(calls):
        context = ctypes.create_string_buffer(CONTEXT_BYTES)
        stack = ctypes.create_string_buffer(STACK_BYTES)
        if libc.getcontext(context) < 0:
            raise_errno("getcontext")
        head = _Context.from_buffer(context)
        head.link = following
        head.stack, head.stack_size = ctypes.addressof(stack), STACK_BYTES
        values = [ctypes.c_ssize_t(argument) for argument in arguments]
        libc.makecontext(context, libc[name], len(values), *values)
        following = ctypes.addressof(context)
        kept += [context, stack]
    if libc.swapcontext(back, ctypes.c_void_p(following)) < 0:
        raise_errno("swapcontext")


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
