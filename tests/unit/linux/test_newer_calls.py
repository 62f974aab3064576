"""The beginning of seccomp filters, run by an interpreter of its few instructions."""

import struct

import pytest

from barque.linux.newer_calls import X32, X32_BIT, X86_64, refuse_newer

AARCH64 = 0xC00000B7
PASSED, ENOSYS = "passed", "ENOSYS"


def answer(program: bytes, architecture: int, number: int) -> str:
    data = {0: number, 4: architecture}
    instructions = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while place < len(instructions):
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x20:
            accumulator = data[value]
        elif code == 0x06:
            assert value == 0x00050026
            return ENOSYS
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
            }
            place += if_true if holds[code] else if_false
    return PASSED


@pytest.mark.parametrize(
    ("architecture", "number", "expected"),
    [
        (X86_64, 0, PASSED),
        (X86_64, 400, PASSED),
        (X86_64, 401, ENOSYS),
        (X86_64, X32_BIT | 500, PASSED),
        (X86_64, X32_BIT | 501, ENOSYS),
        (AARCH64, 300, PASSED),
        (AARCH64, 301, ENOSYS),
        (1, 999, PASSED),
    ],
)
def test_calls_above_the_newest(architecture: int, number: int, expected: str) -> None:
    program = refuse_newer({X86_64: 400, X32: X32_BIT | 500, AARCH64: 300})
    assert answer(program, architecture, number) == expected


def test_x32_where_nothing_is_known_of_it() -> None:
    program = refuse_newer({X86_64: 400})
    assert answer(program, X86_64, X32_BIT | 9999) == PASSED
    assert answer(program, X86_64, 401) == ENOSYS
    assert answer(refuse_newer({}), X86_64, 401) == PASSED
