"""The same messages for the protobuf library: descriptors from our tables, any values for them."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import strategies as st

from barque.shim import wire
from barque.shim.wire import Field, Table

PROTO_TYPES = {
    wire.STRING: descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    wire.BYTES: descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    wire.UINT: descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    wire.INT: descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    wire.BOOL: descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    wire.DOUBLE: descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    wire.MESSAGE: descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
    wire.MAP: descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    wire.STRING: TEXT,
    wire.BYTES: st.binary(max_size=200),
    wire.UINT: st.integers(0, (1 << 64) - 1),
    wire.INT: st.integers(-(1 << 63), (1 << 63) - 1),
    wire.BOOL: st.booleans(),
    wire.DOUBLE: st.floats(allow_nan=False),
    wire.MAP: st.dictionaries(TEXT, TEXT, max_size=3),
}


def _describe(table: Table, name: str) -> descriptor_pb2.DescriptorProto:
    message = descriptor_pb2.DescriptorProto(name=name)
    for field in table.fields:
        item = message.field.add(
            name=field.name, number=field.number, type=PROTO_TYPES[field.kind], label=1
        )
        if field.many or field.kind == wire.MAP:
            item.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        if field.kind in (wire.MESSAGE, wire.MAP):
            nested = f"N{field.number}"
            if field.kind == wire.MAP:
                nested = "".join(part.title() for part in field.name.split("_")) + "Entry"
            inner = wire.ENTRY if field.table is None else field.table
            described = _describe(inner, nested)
            described.options.map_entry = field.kind == wire.MAP
            message.nested_type.append(described)
            item.type_name = nested
    return message


def message_class(table: Table) -> type[Message]:
    """protobuf's class for a message with exactly `table`'s fields."""
    file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", package="o", syntax="proto3")
    file.message_type.append(_describe(table, "M"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("o.M"))


def values_of(table: Table) -> st.SearchStrategy[dict[str, Any]]:
    """Any values for `table`, with any of its fields left out."""

    def one(field: Field) -> st.SearchStrategy[Any]:
        base = values_of(field.table) if field.table is not None else VALUES[field.kind]
        return st.lists(base, max_size=3) if field.many else base

    return st.fixed_dictionaries({}, optional={field.name: one(field) for field in table.fields})


def fill(message: Any, values: dict[str, Any]) -> Any:
    """Set `values` in a protobuf message; returns it."""
    for name, value in values.items():
        target = getattr(message, name)
        if isinstance(value, dict) and isinstance(target, Message):
            target.SetInParent()
            fill(target, value)
        elif isinstance(value, dict):
            target.update(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                fill(target.add(), item)
        elif isinstance(value, list):
            target.extend(value)
        else:
            setattr(message, name, value)
    return message
