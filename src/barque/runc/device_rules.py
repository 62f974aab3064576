"""`linux.resources.devices`: which devices may be used. config-linux.md, "Allowed Device list".

The rules are applied in order to a set that starts empty: everything is denied until it is
allowed, also with an empty list (GHSA-g54h-m393-cpwq). What every container needs comes last.
The result is written to the devices controller (version 1) or compiled to BPF (version 2).
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.linux.bpf import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from barque.oci.fields import Fields

LARGEST_NUMBER = (1 << 31) - 1
ACCESS = "rwm"
KINDS = ("a", "b", "c")

# type, major, minor, access: what a container needs whatever its config says
ALWAYS = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 136, ANY, "rwm"),
    ("c", 5, 2, "rwm"),
)


class Rules:
    """The outcome: everything is allowed, or denied, but for `exceptions`."""

    __slots__ = ("allowed", "exceptions")

    def __init__(self) -> None:
        self.allowed = False
        self.exceptions: dict[tuple[str, int, int], str] = {}

    def add(self, allow: bool, kind: str, major: int, minor: int, access: str) -> None:
        if kind == "a":
            self.allowed = allow
            self.exceptions.clear()
            return
        key = (kind, major, minor)
        before = self.exceptions.get(key, "")
        if allow == self.allowed:
            after = "".join(letter for letter in before if letter not in access)
        else:
            after = "".join(letter for letter in ACCESS if letter in before or letter in access)
        self.exceptions.pop(key, None)
        if after:
            self.exceptions[key] = after

    def lines(self) -> tuple[tuple[str, str], ...]:
        """Version 1: file and line, in order."""
        first, then = ("devices.deny", "devices.allow")
        if self.allowed:
            first, then = then, first
        entries = tuple((then, line(*key, access)) for key, access in self.exceptions.items())
        return ((first, "a"), *entries)


def line(kind: str, major: int, minor: int, access: str) -> str:
    return f"{kind} {_number(major)}:{_number(minor)} {access}"


def _number(value: int) -> str:
    return "*" if value == ANY else str(value)


def parse_rules(entries: Iterable[Fields]) -> Rules:
    rules = Rules()
    for entry in entries:
        kind = entry.text("type") or "a"
        access = entry.text("access") or (ACCESS if kind == "a" else "")
        if kind not in KINDS:
            raise InvalidArgument(f'invalid device type "{kind}"')
        if not access or set(access) - set(ACCESS):
            raise InvalidArgument(f"{entry.path('access')}: {access!r} is not made of r, w and m")
        major, minor = (_wildcard(entry, name) for name in ("major", "minor"))
        if kind == "a" and (major, minor) != (ANY, ANY):
            for each in ("b", "c"):
                rules.add(entry.flag("allow"), each, major, minor, access)
        else:
            rules.add(entry.flag("allow"), kind, major, minor, access)
    for always in ALWAYS:
        rules.add(True, *always)
    return rules


def _wildcard(entry: Fields, name: str) -> int:
    value = entry.number(name, ANY, LARGEST_NUMBER)
    return ANY if value is None else value
