"""Points in time as image documents, filters and the Engine API write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from barque import errors

_FRACTION = re.compile(r"\.(\d+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def unix_seconds(text: object) -> int:
    """RFC 3339 as seconds since 1970; 0 for what is absent or not a time."""
    if not isinstance(text, str):
        return 0
    try:
        return int(_parse(text))
    except (ValueError, OverflowError):
        return 0


def _parse(text: str) -> float:
    text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rfc3339(nanoseconds: int) -> str:
    """With nanoseconds, as Go writes it."""
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09d}Z"


def until(text: str, now_s: float) -> float:
    """A filter's moment: seconds since 1970, RFC 3339, or a duration before now (`24h`)."""
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return now_s - sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else _parse(text)
    except (ValueError, OverflowError):
        raise errors.InvalidArgument(f"invalid filter 'until={text}'") from None
