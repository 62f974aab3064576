"""Checked reading of a JSON object: each value has the type and range its specification gives.

`null` is absence, as in Go. Unknown members are not looked at, as the specifications demand. An
error is InvalidArgument and names the member by its whole path.
"""

from __future__ import annotations

from barque.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

UINT16 = 0xFFFF
UINT32 = 0xFFFFFFFF
INT64 = (1 << 63) - 1
UINT64 = (1 << 64) - 1
LARGEST_ID = UINT32 - 1  # of users and groups: the last value means "unchanged" to the kernel


class Fields:
    """The members of one JSON object; `where` is its own path, for messages."""

    __slots__ = ("members", "where")

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise InvalidArgument(f"{where or 'document'} is not an object")
        self.members: dict[str, Any] = value
        self.where = where

    def path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def has(self, name: str) -> bool:
        return self.members.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        value = self.members.get(name)
        return default if value is None else checked_text(value, self.path(name))

    def flag(self, name: str) -> bool:
        value = self.members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise InvalidArgument(f"{self.path(name)} is not a boolean")
        return value

    def number(self, name: str, low: int, high: int) -> int | None:
        value = self.members.get(name)
        return None if value is None else checked_number(value, low, high, self.path(name))

    def required_number(self, name: str, low: int, high: int) -> int:
        value = self.number(name, low, high)
        if value is None:
            raise InvalidArgument(f"{self.path(name)} is missing")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        path = self.path(name)
        return tuple(checked_text(value, path) for value in self._array(name))

    def numbers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        path = self.path(name)
        return tuple(checked_number(value, low, high, path) for value in self._array(name))

    def table(self, name: str) -> dict[str, str]:
        """An object whose values are all strings."""
        section = self.section(name)
        if section is None:
            return {}
        return {checked_text(key, section.where): section.text(key) for key in section.members}

    def section(self, name: str) -> Fields | None:
        value = self.members.get(name)
        return None if value is None else Fields(value, self.path(name))

    def sections(self, name: str) -> Iterator[Fields]:
        for index, value in enumerate(self._array(name)):
            yield Fields(value, f"{self.path(name)}[{index}]")

    def _array(self, name: str) -> list[Any]:
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise InvalidArgument(f"{self.path(name)} is not an array")
        return value


def checked_text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{path} is not a string")
    if "\0" in value:
        raise InvalidArgument(f"{path} contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{path} contains a lone surrogate") from None
    return value


def checked_number(value: Any, low: int, high: int, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"{path} is not an integer")
    if not low <= value <= high:
        raise InvalidArgument(f"{path}: {value} is not in the range {low} to {high}")
    return value
