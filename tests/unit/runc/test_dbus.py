"""D-Bus messages as bytes."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.runc import dbus

TARGET = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def test_a_call_is_what_the_specification_says() -> None:
    raw = dbus.encode(1, TARGET, "Hello", "")
    assert raw[:4] == b"l\1\0\1"
    body, serial, fields = struct.unpack_from("<III", raw, 4)
    assert (body, serial) == (0, 1)
    assert len(raw) % 8 == 0
    assert dbus.length_of(raw[:16]) == len(raw)
    assert raw[16:].startswith(b"\1\1o\0\x15\0\0\0/org/freedesktop/DBus\0")
    assert fields <= len(raw) - 16


@pytest.mark.parametrize(
    ("signature", "parts"),
    [
        ("ssa(sv)a(sa(sv))", ["s", "s", "a(sv)", "a(sa(sv))"]),
        ("a{sv}aay(u(ss))", ["a{sv}", "aay", "(u(ss))"]),
        ("", []),
    ],
)
def test_types_of_a_signature(signature: str, parts: list[str]) -> None:
    assert list(dbus.types(signature)) == parts


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("t", (1 << 64) - 1),
        ("as", ["a", "", "three"]),
        ("a(ss)", [("a", "b"), ("c", "")]),
        ("ay", [1, 2, 255]),
        ("au", []),
        ("(sau)", ("x", [1, 2])),
        ("b", 1),
    ],
)
def test_values_come_back(kind: str, value: Any) -> None:
    for offset in range(9):
        out = bytearray(offset)
        dbus.write(out, kind, value)
        reader = dbus.Reader(bytes(out), offset)
        assert reader.read(kind) == value
        assert reader.at == len(out)


def test_properties_with_variants_come_back() -> None:
    properties = [("PIDs", ("au", [7])), ("Delegate", ("b", True)), ("Slice", ("s", "x.slice"))]
    raw = dbus.encode(3, TARGET, "M", "sa(sv)", "unit", properties)
    message = dbus.decode(raw)
    assert message.fields[dbus.MEMBER] == "M"
    assert message.fields[dbus.SIGNATURE] == "sa(sv)"
    assert message.body == ["unit", [("PIDs", [7]), ("Delegate", 1), ("Slice", "x.slice")]]


@given(st.binary(max_size=96))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        if len(raw) >= 16:
            dbus.length_of(raw[:16])
        dbus.decode(raw.ljust(16, b"\0"))
    except (ValueError, struct.error, IndexError, KeyError, TypeError, RecursionError):
        pass
