"""Members of a request's JSON objects, of the right type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque import errors


def fold(document: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in lower case: Go's decoder does not tell case apart."""
    if not isinstance(document, Mapping):
        raise errors.InvalidArgument("invalid network: an object is wanted")
    return {key.lower(): value for key, value in document.items()}


def typed(document: Mapping[str, Any], key: str, kind: type, what: str) -> Any:
    value = document.get(key.lower())
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise errors.InvalidArgument(f"invalid network: {what}{key} has the wrong type")
    return value


def strings(document: Mapping[str, Any], key: str, what: str = "") -> dict[str, str]:
    found: dict[str, Any] = typed(document, key, dict, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise errors.InvalidArgument(f"invalid network: {what}{key} has the wrong type")
    return dict(found)
