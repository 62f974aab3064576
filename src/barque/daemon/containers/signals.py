"""Signals by name or number, as `kill`, `stop` and STOPSIGNAL take them."""

from __future__ import annotations

import signal

from barque import errors

MAX_SIGNAL = 64
RTMIN, RTMAX = 34, 64
_ALIASES = {"CLD": "CHLD", "POLL": "IO", "IOT": "ABRT", "UNUSED": "SYS"}
_BY_NAME = {item.name.removeprefix("SIG"): int(item) for item in signal.Signals}


def parse(text: str) -> int:
    """`TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`. Raises InvalidArgument with Docker's words."""
    if text.isascii() and text.isdigit() and len(text) <= 3:
        number = int(text)
        if 1 <= number <= MAX_SIGNAL:
            return number
        raise errors.InvalidArgument(f"Invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    number = _BY_NAME.get(_ALIASES.get(name, name)) or _real_time(name)
    if not number:
        raise errors.InvalidArgument(f"Invalid signal: {text}")
    return number


def _real_time(name: str) -> int:
    for base, start, sign in (("RTMIN", RTMIN, "+"), ("RTMAX", RTMAX, "-")):
        if name == base:
            return start
        offset = name.removeprefix(base + sign)
        if offset != name and offset.isascii() and offset.isdigit() and len(offset) <= 2:
            number = start + int(offset) if sign == "+" else start - int(offset)
            return number if RTMIN <= number <= RTMAX else 0
    return 0
