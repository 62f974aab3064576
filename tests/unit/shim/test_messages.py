"""Our tables against the classes that protoc made from containerd's own definitions."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from barque.containerd.proto import (
    cgroups_v1_pb2,
    cgroups_v2_pb2,
    event_types_pb2,
    events_ttrpc_pb2,
    runc_options_pb2,
    sandbox_shim_pb2,
    shim_pb2,
)
from barque.shim import messages, metrics, sandbox_messages, wire
from barque.shim.wire import Table

SANDBOX = sandbox_shim_pb2.DESCRIPTOR.services_by_name["Sandbox"]
KINDS = {
    FieldDescriptor.TYPE_STRING: wire.STRING,
    FieldDescriptor.TYPE_BYTES: wire.BYTES,
    FieldDescriptor.TYPE_UINT32: wire.UINT,
    FieldDescriptor.TYPE_UINT64: wire.UINT,
    FieldDescriptor.TYPE_ENUM: wire.UINT,
    FieldDescriptor.TYPE_INT32: wire.INT,
    FieldDescriptor.TYPE_INT64: wire.INT,
    FieldDescriptor.TYPE_BOOL: wire.BOOL,
    FieldDescriptor.TYPE_MESSAGE: wire.MESSAGE,
    FieldDescriptor.TYPE_DOUBLE: wire.DOUBLE,
}
RENAMED = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
    "hierarchical_swap_limit": "hierarchical_memsw_limit",
    "total_pg_pg_in": "total_pgpgin",
    "total_pg_pg_out": "total_pgpgout",
    "total_pg_fault": "total_pgfault",
    "total_pg_maj_fault": "total_pgmajfault",
}


def check(table: Table, descriptor: Any) -> None:
    """Every field of ours is there under its number, name and type; below it too."""
    assert table.name == descriptor.full_name
    for field in table.fields:
        theirs = descriptor.fields_by_number[field.number]
        assert field.name == RENAMED.get(theirs.name, theirs.name)
        if field.kind == wire.MAP:
            assert theirs.message_type.GetOptions().map_entry
            continue
        assert field.kind == KINDS[theirs.type], (table.name, field.name)
        assert field.many == theirs.is_repeated
        if field.table is not None:
            check(field.table, theirs.message_type)


def check_method(theirs: MethodDescriptor, request: Table, answer: Table) -> None:
    check(request, theirs.input_type)
    check(answer, theirs.output_type)
    ours = {field.number for field in request.fields}
    missing = set(theirs.input_type.fields_by_number) - ours
    assert not missing, f"a field of {theirs.name} would be ignored"


@pytest.mark.parametrize("method", messages.METHODS)
def test_methods(method: str) -> None:
    theirs = shim_pb2.DESCRIPTOR.services_by_name["Task"].methods_by_name[method]
    check_method(theirs, *messages.METHODS[method])


def test_all_methods_are_there_in_order() -> None:
    service = shim_pb2.DESCRIPTOR.services_by_name["Task"]
    assert [method.name for method in service.methods] == list(messages.METHODS)


@pytest.mark.parametrize("method", sandbox_messages.METHODS)
def test_methods_of_sandboxes(method: str) -> None:
    check_method(SANDBOX.methods_by_name[method], *sandbox_messages.METHODS[method])


def test_all_methods_of_sandboxes_are_there_in_order() -> None:
    assert [method.name for method in SANDBOX.methods] == list(sandbox_messages.METHODS)
    assert SANDBOX.full_name == sandbox_messages.SERVICE


@pytest.mark.parametrize("topic", messages.TASK_EVENTS)
def test_events(topic: str) -> None:
    table = messages.TASK_EVENTS[topic]
    name = table.name.rpartition(".")[2]
    check(table, event_types_pb2.DESCRIPTOR.message_types_by_name[name])


def test_the_rest() -> None:
    check(messages.FORWARD_REQUEST, events_ttrpc_pb2.ForwardRequest.DESCRIPTOR)
    check(messages.RUNC_OPTIONS, runc_options_pb2.Options.DESCRIPTOR)
    check(messages.CHECKPOINT_OPTIONS, runc_options_pb2.CheckpointOptions.DESCRIPTOR)
    check(metrics.METRICS_V1, cgroups_v1_pb2.Metrics.DESCRIPTOR)
    check(metrics.METRICS_V2, cgroups_v2_pb2.Metrics.DESCRIPTOR)
