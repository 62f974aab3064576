"""The order of names in lists: as docker's command has it, by the numbers in them."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    Part = tuple[int, int, bytes, int] | tuple[int, int, bytes]

PARTS = re.compile(rb"[0-9]+|[^0-9]")


def natural(name: str) -> list[Part]:
    """A key to sort by: `a2` before `a10`, digits before all else, and of numbers that are alike
    the one with fewer zeros before it."""
    return [_part(found) for found in PARTS.findall(name.encode("utf-8", "surrogatepass"))]


def _part(text: bytes) -> Part:
    if not text.isdigit():
        return (1, 0, text)
    digits = text.lstrip(b"0")
    return (0, len(digits), digits, len(text) - len(digits))
