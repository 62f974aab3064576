from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from barque.errors import InvalidArgument
from barque.shim import messages, wire
from barque.shim.wire import Field, Table, decode, encode
from tests.support.protobuf_oracle import fill, message_class, values_of

EVERY_KIND = Table(
    "every.Kind",
    Field(1, "text", wire.STRING),
    Field(2, "raw", wire.BYTES),
    Field(3, "count", wire.UINT),
    Field(4, "change", wire.INT),
    Field(5, "flag", wire.BOOL),
    Field(6, "ratio", wire.DOUBLE),
    Field(7, "when", wire.MESSAGE, messages.TIMESTAMP),
    Field(16, "counts", wire.UINT, many=True),
    Field(17, "texts", wire.STRING, many=True),
    Field(18, "anys", wire.MESSAGE, messages.ANY, many=True),
    Field(2048, "labels", wire.MAP),
)
ORACLE = message_class(EVERY_KIND)


def with_defaults(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    full = wire._blank(table)
    for field in table.fields:
        if field.name in values:
            value = values[field.name]
            if field.table is not None and field.many:
                value = [with_defaults(field.table, item) for item in value]
            elif field.table is not None:
                value = with_defaults(field.table, value)
            full[field.name] = value
    return full


@given(values_of(EVERY_KIND))
@example({"ratio": -0.0})
def test_bytes_equal_protobufs(values: dict[str, Any]) -> None:
    if len(values.get("labels", {})) > 1:
        values["labels"] = dict([values["labels"].popitem()])  # a map has no order on the wire
    expected = fill(ORACLE(), values).SerializeToString(deterministic=True)
    assert encode(EVERY_KIND, values) == expected


@given(values_of(EVERY_KIND))
def test_reads_what_protobuf_writes(values: dict[str, Any]) -> None:
    raw = fill(ORACLE(), values).SerializeToString()
    assert decode(EVERY_KIND, raw) == with_defaults(EVERY_KIND, values)


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_fail_in_one_way(data: bytes) -> None:
    for table in (EVERY_KIND, messages.CREATE_REQUEST, messages.RPC_REQUEST):
        with contextlib.suppress(InvalidArgument):
            decode(table, data)


@given(values_of(EVERY_KIND))
def test_unknown_fields_are_skipped(values: dict[str, Any]) -> None:
    values.pop("ratio", None)
    assert decode(messages.EMPTY, encode(EVERY_KIND, values)) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05abc",  # text cut off
        b"\x0a\x02\xff\xfe",  # text not UTF-8
        b"\x18\x80",  # varint cut off
        b"\x18" + b"\x80" * 10 + b"\x01",  # varint over-long
        b"\x0b",  # group
        b"\x02\x00",  # field number 0
        b"\x3a\x02\x08\x80",  # inner varint runs into the end of its message
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode(EVERY_KIND, data)


def test_a_key_the_table_does_not_have_is_a_bug() -> None:
    with pytest.raises(KeyError, match="nope"):
        encode(EVERY_KIND, {"nope": 1})


@pytest.mark.parametrize("method", messages.METHODS)
def test_each_methods_messages_equal_protobufs(method: str) -> None:
    for table in messages.METHODS[method]:
        values = with_defaults(table, {})
        for field in table.fields:
            values[field.name] = {
                wire.STRING: "x" * field.number,
                wire.UINT: field.number,
                wire.BOOL: True,
                wire.MAP: {"k": "v"},
                wire.MESSAGE: [{}] if field.many else {},
            }[field.kind]
        expected = fill(message_class(table)(), values).SerializeToString()
        assert encode(table, values) == expected
