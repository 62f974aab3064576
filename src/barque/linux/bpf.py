"""bpf(2): the device filter of a version 2 cgroup, as a BPF_PROG_TYPE_CGROUP_DEVICE program."""

from __future__ import annotations

import ctypes
import os
import struct

from barque.linux.libc import MACHINE, raise_errno, system_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
ALL_ACCESS = 7
ANY = -1
LICENCE = b"Apache-2.0"
INSTRUCTION_BYTES = 8

_bpf = system_call(
    {"x86_64": 321, "aarch64": 280, "riscv64": 280}[MACHINE],
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

# opcodes
LOAD_WORD = 0x61  # dst = *(u32 *)(src + off)
SHIFT_RIGHT = 0x77
AND = 0x57
MOVE = 0xB7
MOVE_REGISTER = 0xBF
JUMP_UNLESS_EQUAL = 0x55
JUMP_IF_EQUAL = 0x15
EXIT = 0x95

# registers: 1 is the context, then the scratch; what was asked is in 2 to 5
SCRATCH, TYPE, ASKED, MAJOR, MINOR = 1, 2, 3, 4, 5


def _instruction(
    opcode: int, target: int = 0, source: int = 0, offset: int = 0, imm: int = 0
) -> bytes:
    return struct.pack("<BBhi", opcode, target | source << 4, offset, imm)


def device_program(allowed: bool, exceptions: Iterable[tuple[str, int, int, str]]) -> bytes:
    """A program that answers `allowed` but for the exceptions (type, major, minor, access).

    When all is denied, an exception allows what asks for nothing beyond its access; when all is
    allowed, it denies what asks for any of it.
    """
    parts = [
        _instruction(LOAD_WORD, TYPE, 1, 0),
        _instruction(MOVE_REGISTER, ASKED, TYPE),
        _instruction(SHIFT_RIGHT, ASKED, imm=16),
        _instruction(AND, TYPE, imm=0xFFFF),
        _instruction(LOAD_WORD, MAJOR, 1, 4),
        _instruction(LOAD_WORD, MINOR, 1, 8),
    ]
    for exception in exceptions:
        parts.append(_rule(allowed, *exception))
    parts += [_instruction(MOVE, 0, imm=int(allowed)), _instruction(EXIT)]
    return b"".join(parts)


def _rule(allowed: bool, kind: str, major: int, minor: int, access: str) -> bytes:
    bits = 0
    for letter in access:
        bits |= ACCESS[letter]
    checks = [(TYPE, TYPES[kind])]
    if major != ANY:
        checks.append((MAJOR, major))
    if minor != ANY:
        checks.append((MINOR, minor))
    tail = [_instruction(MOVE, 0, imm=int(not allowed)), _instruction(EXIT)]
    middle = [
        _instruction(MOVE_REGISTER, SCRATCH, ASKED),
        _instruction(AND, SCRATCH, imm=bits if allowed else ALL_ACCESS & ~bits),
    ]
    skip = JUMP_IF_EQUAL if allowed else JUMP_UNLESS_EQUAL
    middle.append(_instruction(skip, SCRATCH, offset=len(tail), imm=0))
    heads = []
    for index, (register, value) in enumerate(checks):
        rest = len(checks) - index - 1 + len(middle) + len(tail)
        heads.append(_instruction(JUMP_UNLESS_EQUAL, register, offset=rest, imm=value))
    return b"".join([*heads, *middle, *tail])


def load_device_program(program: bytes) -> int:
    """Load the program; returns its descriptor. Needs CAP_BPF or CAP_SYS_ADMIN."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(LICENCE)
    attributes = struct.pack(
        "=IIQQIIQII",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // INSTRUCTION_BYTES,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),
    )
    fd = _bpf(BPF_PROG_LOAD, attributes, len(attributes))
    if fd < 0:
        raise_errno("bpf")
    return fd


def attach_device_program(cgroup: str, program: bytes) -> None:
    """Filter the devices of the cgroup directory; it lasts as long as the cgroup."""
    loaded = load_device_program(program)
    try:
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attributes = struct.pack(
                "=IIII", directory, loaded, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI
            )
            if _bpf(BPF_PROG_ATTACH, attributes, len(attributes)) < 0:
                raise_errno("bpf", cgroup)
        finally:
            os.close(directory)
    finally:
        os.close(loaded)
