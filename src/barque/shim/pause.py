"""The program of a sandbox that names none: it holds the pod's namespaces and does nothing else.

An ELF file of some 200 bytes, 12 KiB of memory when it runs. It blocks the three signals it knows,
so that they wait for it although it is the first process of its pid namespace, and then:

    reap:  wait4(-1, WNOHANG) until there is nobody left
    next:  sigtimedwait(TERM, INT, CHLD)     for ever
           CHLD: reap; TERM, INT: exit(0)

Source: elf(5), signal(7), and the tables of system calls of both architectures.
"""

from __future__ import annotations

import os
import struct

from barque.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PATH: Final = "/pause"
BASE: Final = 0x400000  # where it is loaded
HEADERS_BYTES: Final = 64 + 56  # of the file, of its one segment
READ_AND_EXECUTE: Final = 5

# Of each: the machine's number in ELF, the size of a page, the code.
PROGRAMS: Final = {
    "x86_64": (
        62,
        0x1000,
        "6802400100 4889e3"  # push the set of signals; keep its address in rbx
        "31ff 4889de 31d2 6a08415a b80e000000 0f05"  # rt_sigprocmask(SIG_BLOCK, set, 0, 8)
        "83cfff 31f6 6a015a 4531d2 b83d000000 0f05"  # reap: wait4(-1, 0, WNOHANG, 0)
        "85c0 7fea"  # somebody: reap
        "4889df 31f6 31d2 6a08415a b880000000 0f05"  # next: rt_sigtimedwait(set, 0, 0, 8)
        "83f811 74d3 85c0 7ee5"  # CHLD: reap; no signal: next
        "31ff b83c000000 0f05",  # exit(0)
    ),
    "aarch64": (
        183,
        0x10000,
        "490088d2 2900a0f2 e90f1ff8"  # push the set of signals
        "000080d2 e1030091 020080d2 030180d2 e81080d2 010000d4"  # rt_sigprocmask
        "00008092 010080d2 220080d2 030080d2 882080d2 010000d4"  # reap: wait4
        "1f000071 2cffff54"  # somebody: reap
        "e0030091 010080d2 020080d2 030180d2 281180d2 010000d4"  # next: rt_sigtimedwait
        "1f440071 20feff54 1f000071 edfeff54"  # CHLD: reap; no signal: next
        "000080d2 a80b80d2 010000d4",  # exit(0)
    ),
}


def program(machine: str) -> bytes:
    """The file for a machine, as uname(2) names it. Raises Unsupported for others than these."""
    if machine not in PROGRAMS:
        raise Unsupported(f"a sandbox whose spec names no program is not supported on {machine}")
    number, page, text = PROGRAMS[machine]
    code = bytes.fromhex(text)
    size = HEADERS_BYTES + len(code)
    return _file_header(number) + _segment(size, page) + code


def _file_header(machine: int) -> bytes:
    """64 bits, little-endian, an executable whose code follows the headers."""
    kind, version, headers = 2, 1, 64
    sizes = (headers, 56, 1, 64, 0, 0)  # one program header, no section headers
    entry = BASE + HEADERS_BYTES
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, version, entry, headers, 0, 0, *sizes
    )


def _segment(size: int, page: int) -> bytes:
    """The whole file, loaded at `BASE`."""
    load = 1
    return struct.pack("<IIQQQQQQ", load, READ_AND_EXECUTE, 0, BASE, BASE, size, size, page)


def write(directory: str) -> None:
    """Have the program in `directory`, which is made for it."""
    data = program(os.uname().machine)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    path = directory + PATH
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
