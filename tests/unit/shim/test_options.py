"""The options that come with a task: whose they are, and what of them is there."""

from __future__ import annotations

from typing import Any

import pytest

from barque.errors import InvalidArgument, Unsupported
from barque.shim import messages, wire
from barque.shim.container import parse_options

DEFAULTS = wire.decode(messages.RUNC_OPTIONS, b"")


def options(table: wire.Table, **values: Any) -> dict[str, Any]:
    return {"type_url": table.name, "value": wire.encode(table, values)}


@pytest.mark.parametrize("given", [None, {"type_url": "", "value": b""}])
def test_none_are_the_defaults(given: dict[str, Any] | None) -> None:
    assert parse_options(given) == DEFAULTS


@pytest.mark.parametrize("table", [messages.RUNC_OPTIONS, messages.LINUX_OPTIONS])
def test_runtimes_of_any_name_get_the_same(table: wire.Table) -> None:
    wanted = {"no_pivot_root": True, "shim_cgroup": "/s", "io_uid": 1, "io_gid": 2}
    assert parse_options(options(table, **wanted)) == {**DEFAULTS, **wanted}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, True) for name in ("open_tcp", "external_unix_sockets", "terminal", "file_locks")),
        *(("empty_namespaces", ["network"]), ("cgroups_mode", "soft"), ("criu_image_path", "/i")),
    ],
)
def test_what_is_for_criu_is_refused_rather_than_left_out(option: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=option):
        parse_options(options(messages.LINUX_OPTIONS, **{option: value}))


@pytest.mark.parametrize("table", [messages.RUNC_OPTIONS, messages.CHECKPOINT_OPTIONS])
def test_options_of_another_kind_are_refused(table: wire.Table) -> None:
    with pytest.raises(InvalidArgument, match="are not supported"):
        parse_options({"type_url": "runtimeoptions.v1.Options", "value": b""}, table)


def test_only_a_task_has_those_of_its_making() -> None:
    with pytest.raises(InvalidArgument, match="are not supported"):
        parse_options(options(messages.LINUX_OPTIONS), messages.CHECKPOINT_OPTIONS)
