"""Device rules: the outcome of a list, and the same outcome as lines and as BPF."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.errors import InvalidArgument
from barque.linux import bpf
from barque.oci.fields import Fields
from barque.runc.device_rules import Rules, parse_rules


def rules(*entries: dict[str, Any]) -> Rules:
    return parse_rules([Fields(entry, f"devices[{i}]") for i, entry in enumerate(entries)])


def allowed(found: Rules, kind: str, major: int, minor: int, asked: str) -> bool:
    """The kernel's version 1 decision, from its documentation."""
    for (rule_kind, rule_major, rule_minor), access in found.exceptions.items():
        same = (
            rule_kind == kind and rule_major in (bpf.ANY, major) and rule_minor in (bpf.ANY, minor)
        )
        if same and not found.allowed and set(asked) <= set(access):
            return True
        if same and found.allowed and set(asked) & set(access):
            return False
    return found.allowed


def run_program(program: bytes, kind: str, major: int, minor: int, asked: str) -> bool:
    """A little interpreter for the instructions that are used."""
    bits = sum(bpf.ACCESS[letter] for letter in asked)
    context = struct.pack("<III", bits << 16 | bpf.TYPES[kind], major, minor)
    registers = [0] * 11
    position = 0
    while True:
        opcode, both, offset, imm = struct.unpack_from("<BBhi", program, position * 8)
        target, source = both & 15, both >> 4
        position += 1
        if opcode == bpf.LOAD_WORD:
            registers[target] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == bpf.MOVE_REGISTER:
            registers[target] = registers[source]
        elif opcode == bpf.MOVE:
            registers[target] = imm
        elif opcode == bpf.AND:
            registers[target] &= imm
        elif opcode == bpf.SHIFT_RIGHT:
            registers[target] >>= imm
        elif opcode == bpf.JUMP_UNLESS_EQUAL:
            position += offset if registers[target] != imm else 0
        elif opcode == bpf.JUMP_IF_EQUAL:
            position += offset if registers[target] == imm else 0
        else:
            assert opcode == bpf.EXIT
            return bool(registers[0])


def test_an_empty_list_denies() -> None:
    found = rules()
    assert not found.allowed
    assert not allowed(found, "b", 8, 0, "r")
    assert allowed(found, "c", 1, 3, "rw")
    assert allowed(found, "b", 8, 0, "m")
    assert found.lines()[0] == ("devices.deny", "a")


def test_all_and_back() -> None:
    assert rules({"allow": True, "access": "rwm"}).allowed
    assert rules({"allow": True, "access": "rwm"}).lines()[0] == ("devices.allow", "a")
    both = ({"allow": True, "access": "rwm"}, {"allow": False, "access": "rwm"})
    assert not rules(*both).allowed


def test_later_rules_take_back() -> None:
    device = {"type": "c", "major": 10, "minor": 200}
    found = rules(
        {**device, "allow": True, "access": "rwm"}, {**device, "allow": False, "access": "w"}
    )
    assert allowed(found, "c", 10, 200, "r")
    assert not allowed(found, "c", 10, 200, "rw")


ENTRIES = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "access": st.sampled_from(["r", "w", "m", "rw", "rwm", "wm"]),
        "type": st.sampled_from(["a", "b", "c"]),
    },
    optional={"major": st.integers(-1, 3), "minor": st.integers(-1, 3)},
)


@given(
    st.lists(ENTRIES, max_size=5),
    st.sampled_from("bc"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["r", "w", "m", "rw", "rwm"]),
)
def test_the_program_decides_as_the_rules(
    entries: list[dict[str, Any]], kind: str, major: int, minor: int, asked: str
) -> None:
    found = rules(*entries)
    exceptions = [(*key, access) for key, access in found.exceptions.items()]
    program = bpf.device_program(found.allowed, exceptions)
    expected = allowed(found, kind, major, minor, asked)
    assert run_program(program, kind, major, minor, asked) == expected


@pytest.mark.parametrize(
    "entry",
    [
        {"allow": True, "type": "x", "access": "r"},
        {"allow": True, "type": "c", "access": "q"},
        {"allow": True, "type": "c"},
        {"allow": True, "type": "c", "major": 1 << 40, "access": "r"},
        {"allow": 1, "access": "r"},
    ],
)
def test_what_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        rules(entry)
