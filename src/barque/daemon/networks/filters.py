"""Filters of `network ls` and `network prune`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from barque import errors
from barque.daemon.networks.records import NetworkRecord

Test = Callable[[NetworkRecord, str], bool]


def label_matches(labels: Mapping[str, str], wanted: str) -> bool:
    """`key` or `key=value`."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _is_type(record: NetworkRecord, wanted: str) -> bool:
    if wanted not in {"custom", "builtin"}:
        raise errors.InvalidArgument(f"invalid filter: 'type'='{wanted}'")
    return record.is_builtin == (wanted == "builtin")


TESTS: Mapping[str, Test] = {
    "driver": lambda record, wanted: record.driver == wanted,
    "id": lambda record, wanted: wanted in record.id,
    "name": lambda record, wanted: wanted in record.name,
    "label": lambda record, wanted: label_matches(record.labels, wanted),
    "scope": lambda record, wanted: wanted == "local",
    "type": _is_type,
}
_EVERY = frozenset({"label"})  # all values must match; of the others one is enough


def check_keys(filters: Mapping[str, Sequence[str]], known: frozenset[str]) -> None:
    """Raises InvalidArgument with Docker's words for a filter that does not exist."""
    for key in filters:
        if key not in known:
            raise errors.InvalidArgument(f"invalid filter '{key}'")


LIST_KEYS = frozenset({*TESTS, "dangling"})
PRUNE_KEYS = frozenset({"label", "label!", "until"})


def matches(record: NetworkRecord, filters: Mapping[str, Sequence[str]], *, in_use: bool) -> bool:
    """Whether `network ls` shows the network."""
    for key, values in filters.items():
        if key == "dangling":
            if dangling_wanted(values) != (not in_use and not record.is_builtin):
                return False
            continue
        found = [TESTS[key](record, value) for value in values]
        if found and not (all(found) if key in _EVERY else any(found)):
            return False
    return True


def dangling_wanted(values: Sequence[str]) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if len(values) != 1 or values[0].lower() not in known:
        raise errors.InvalidArgument(f"invalid filter 'dangling={list(values)}'")
    return known[values[0].lower()]


def prunable(
    record: NetworkRecord, filters: Mapping[str, Sequence[str]], *, before: str | None
) -> bool:
    """Whether `network prune` may remove an unused network; `before` is an RFC 3339 time."""
    if record.is_builtin or record.template or (before is not None and record.created >= before):
        return False
    if not all(label_matches(record.labels, wanted) for wanted in filters.get("label", ())):
        return False
    return not any(label_matches(record.labels, wanted) for wanted in filters.get("label!", ()))
