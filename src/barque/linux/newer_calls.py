"""A beginning for seccomp filters: ENOSYS for system calls that their author did not know.

A C library that tries a new call takes another way after ENOSYS, and gives up after EPERM.
"""

from __future__ import annotations

import sys

# linux/filter.h and the offsets of struct seccomp_data
LOAD_WORD, RETURN = 0x20, 0x06
JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST = 0x15, 0x25, 0x35
NUMBER_OFFSET, ARCHITECTURE_OFFSET = 0, 4
RETURN_ENOSYS = 0x00050000 | 38
# x32 is a part of x86_64 to the kernel: calls with this bit
X86_64, X32, X32_BIT = 0xC000003E, 0x4000003E, 0x40000000


def refuse_newer(newest: dict[int, int]) -> bytes:
    """Instructions that answer calls with a number above the newest one that is known, and leave
    all others to what follows. `newest` is by architecture, in libseccomp's tokens; of one that is
    not there nothing is known.
    """
    program = [_instruction(LOAD_WORD, ARCHITECTURE_OFFSET)]
    for token, number in newest.items():
        if token != X32:
            section = [_instruction(LOAD_WORD, NUMBER_OFFSET), *_compare(token, number, newest)]
            section.append(_instruction(RETURN, RETURN_ENOSYS))
            program += [_instruction(JUMP_EQUAL, token, 0, len(section) + 1), *section]
            program.append(_instruction(LOAD_WORD, ARCHITECTURE_OFFSET))
    return b"".join(program)


def _compare(token: int, number: int, newest: dict[int, int]) -> list[bytes]:
    """From the call's number to the instruction that refuses it, or to the one after that."""
    if token != X86_64:
        return [_instruction(JUMP_GREATER, number, 0, 1)]
    if X32 not in newest:
        above = _instruction(JUMP_AT_LEAST, X32_BIT, 2, 0)
        return [above, _instruction(JUMP_GREATER, number, 0, 1)]
    return [
        _instruction(JUMP_AT_LEAST, X32_BIT, 1, 0),
        _instruction(JUMP_GREATER, number, 1, 2),
        _instruction(JUMP_GREATER, newest[X32], 0, 1),
    ]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter"""
    jumps = bytes((if_true, if_false))
    return code.to_bytes(2, sys.byteorder) + jumps + value.to_bytes(4, sys.byteorder)
