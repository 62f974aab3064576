"""Protocol Buffers' wire format for messages that are tables, without generated code.

Source: the encoding page of the protobuf documentation (varints, length-delimited fields, packed
repeated numbers, maps as repeated entries). A message is a dict from field name to value; `decode`
fills every field of its table (zero, empty, or None for an absent message), `encode` leaves out
what has its zero value, as proto3 does. Fields that a table does not know are skipped. When a
message field comes more than once the last one counts.
"""

from __future__ import annotations

import struct

from barque.errors import InvalidArgument
from barque.oci.varint import U64, read_varint, varint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    Values = dict[str, Any]

STRING: Final = 0
BYTES: Final = 1
UINT: Final = 2  # uint32 and uint64
INT: Final = 3  # int32 and int64: two's complement in 64 bits
BOOL: Final = 4
MESSAGE: Final = 5
DOUBLE: Final = 6
MAP: Final = 7  # map<string, string>

ZERO: Final[dict[int, object]] = {STRING: "", BYTES: b"", UINT: 0, INT: 0, BOOL: False, DOUBLE: 0.0}
WIRE_TYPE: Final = {STRING: 2, BYTES: 2, UINT: 0, INT: 0, BOOL: 0, MESSAGE: 2, DOUBLE: 1, MAP: 2}


class Field:
    """One field: its number, name and kind; `table` for a message, `many` for repeated."""

    __slots__ = ("key", "kind", "many", "name", "number", "table")

    def __init__(
        self, number: int, name: str, kind: int, table: Table | None = None, many: bool = False
    ) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.table = table
        self.many = many
        self.key = varint(number << 3 | WIRE_TYPE[kind])


class Table:
    """A message: its full protobuf name and its fields."""

    __slots__ = ("by_number", "fields", "name")

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        self.by_number = {field.number: field for field in fields}


def encode(table: Table, values: Values) -> bytes:
    """The bytes of a message. A key that `table` does not have is a bug and raises KeyError."""
    out = bytearray()
    used = 0
    for field in table.fields:
        if field.name not in values:
            continue
        used += 1
        value = values[field.name]
        if not value and (field.many or not _present(field.kind, value)):
            continue
        if field.kind == MAP:
            _encode_map(out, field, value)
        elif not field.many:
            out += field.key
            out += _encode_value(field, value)
        elif field.kind in (UINT, INT, BOOL, DOUBLE):
            packed = b"".join([_encode_value(field, item) for item in value])
            out += varint(field.number << 3 | 2) + varint(len(packed)) + packed
        else:
            for item in value:
                out += field.key
                out += _encode_value(field, item)
    if used != len(values):
        unknown = set(values) - {field.name for field in table.fields}
        raise KeyError(f"{table.name} has no field {unknown}")
    return bytes(out)


def _present(kind: int, value: object) -> bool:
    """A message without any field set is still there; so is -0.0, which is not the zero value."""
    if kind == MESSAGE:
        return value is not None
    return kind == DOUBLE and str(value) == "-0.0"


def _encode_value(field: Field, value: Any) -> bytes:
    kind = field.kind
    raw: bytes = value
    if kind == STRING:
        raw = value.encode()
    elif kind == MESSAGE:
        assert field.table is not None
        raw = encode(field.table, value)
    elif kind == DOUBLE:
        return struct.pack("<d", value)
    elif kind != BYTES:
        return varint(int(value) & U64)
    return varint(len(raw)) + raw


def _encode_map(out: bytearray, field: Field, value: dict[str, str]) -> None:
    for key, item in value.items():
        raw_key = key.encode()
        raw_item = item.encode()
        raw = b"\x0a%b%b\x12%b%b" % (varint(len(raw_key)), raw_key, varint(len(raw_item)), raw_item)
        out += field.key + varint(len(raw)) + raw


def decode(table: Table, data: bytes) -> Values:
    """The message in `data`. Raises InvalidArgument, naming the message, for malformed bytes."""
    try:
        return _decode(table, data, 0, len(data))
    except (IndexError, ValueError, struct.error) as error:
        raise InvalidArgument(f"malformed message {table.name}: {error}") from error


def _blank(table: Table) -> Values:
    values: Values = {}
    for field in table.fields:
        if field.kind == MAP:
            values[field.name] = {}
        else:
            values[field.name] = [] if field.many else ZERO.get(field.kind)
    return values


def _decode(table: Table, data: bytes, at: int, end: int) -> Values:
    values = _blank(table)
    fields = table.by_number
    while at < end:
        key, at = read_varint(data, at, end)
        wire = key & 7
        field = fields.get(key >> 3)
        if wire == 0:
            number, at = read_varint(data, at, end)
            if field is not None:
                _store_number(values, field, number)
            continue
        if wire == 2:
            length, start = read_varint(data, at, end)
        elif wire in (1, 5):
            length, start = (8 if wire == 1 else 4), at
        else:
            raise ValueError(f"wire type {wire}")
        at = start + length
        if at > end:
            raise IndexError("truncated field")
        if key >> 3 == 0:
            raise ValueError("field number 0")
        if field is not None:
            _store_bytes(values, field, wire, data, start, at)
    return values


def _number(field: Field, raw: int) -> object:
    if field.kind == BOOL:
        return raw != 0
    if field.kind == INT and raw >> 63:
        return raw - (1 << 64)
    return raw


def _store_number(values: Values, field: Field, raw: int) -> None:
    if WIRE_TYPE[field.kind] != 0:
        return  # another type under a known number: as unknown
    if field.many:
        values[field.name].append(_number(field, raw))
    else:
        values[field.name] = _number(field, raw)


def _store_bytes(
    values: Values, field: Field, wire: int, data: bytes, start: int, end: int
) -> None:
    kind = field.kind
    value: object
    if kind == MAP and wire == 2:
        entry = _decode(ENTRY, data, start, end)
        values[field.name][entry["key"]] = entry["value"]
        return
    if field.many and wire == 2 and kind in (UINT, INT, BOOL):
        while start < end:
            raw, start = read_varint(data, start, end)
            values[field.name].append(_number(field, raw))
        return
    if WIRE_TYPE[kind] != wire:
        return
    if kind == STRING:
        value = str(data[start:end], "utf-8")
    elif kind == BYTES:
        value = bytes(data[start:end])
    elif kind == DOUBLE:
        value = struct.unpack_from("<d", data, start)[0]
    else:
        assert field.table is not None
        value = _decode(field.table, data, start, end)
    if field.many:
        values[field.name].append(value)
    else:
        values[field.name] = value


ENTRY: Final = Table("map entry", Field(1, "key", STRING), Field(2, "value", STRING))
