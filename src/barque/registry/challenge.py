"""The `WWW-Authenticate` header: what a registry asks for. No I/O; RFC 9110 section 11."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEADER_BYTES = 8 << 10
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(
    rf'\s*(?:,\s*)*(?P<name>{_TOKEN})(?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN})))?'
)


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str  # in lower case: "basic", "bearer"
    parameters: Mapping[str, str]  # names in lower case


def parse(header: str) -> list[Challenge]:
    """All challenges of one header, in order; what cannot be read ends the list."""
    if len(header) > MAX_HEADER_BYTES:
        return []
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _PIECE.match(header, position):
        position = match.end()
        name, value = match["name"].lower(), match["plain"]
        if match["quoted"] is not None:
            value = re.sub(r"\\(.)", r"\1", match["quoted"])
        if value is None:
            found.append((name, {}))
        elif found:
            found[-1][1].setdefault(name, value)
        else:
            break
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def choose(header: str) -> Challenge | None:
    """The challenge to answer: bearer before basic, None for any other."""
    known = {challenge.scheme: challenge for challenge in reversed(parse(header))}
    return known.get("bearer") or known.get("basic")
