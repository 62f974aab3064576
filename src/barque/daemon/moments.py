"""Points in time and lengths of time, as Docker's API, documents and filters write them.

One place for all of the daemon: Go prints a time with nanoseconds without trailing zeros
(RFC3339Nano), and reads a duration as a sum of numbers with units (`1h30m`).
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from barque import errors

ZERO = "0001-01-01T00:00:00Z"
NS = 1_000_000_000
_FRACTION = re.compile(r"\.(\d+)")
_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|μs|ns|m|s)", re.ASCII)
_UNITS_NS = {
    "h": 3600 * NS,
    "m": 60 * NS,
    "s": NS,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}


def rfc3339(time_ns: int) -> str:
    """As Go prints a time: UTC, nanoseconds without trailing zeros."""
    seconds, fraction = divmod(time_ns, NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def rfc3339_now() -> str:
    return rfc3339(time.time_ns())


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since 1970; 0 for Go's zero time. Without a zone it is UTC. Raises ValueError."""
    return max(0, _parse(text))


def _parse(text: str) -> int:
    fraction = _FRACTION.search(text)
    moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    digits = int(fraction[1][:9].ljust(9, "0")) if fraction else 0
    try:
        return int(moment.timestamp()) * NS + digits
    except OverflowError:
        return 0


def unix_seconds(text: object) -> int:
    """RFC 3339 as seconds since 1970; 0 for what is absent or not a time."""
    if not isinstance(text, str):
        return 0
    try:
        return _parse(text) // NS
    except ValueError:
        return 0


def duration_ns(text: str) -> int | None:
    """`1h30m`, `10ms`; None for what is no duration."""
    pieces = _PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        return None
    return sum(int(float(number) * _UNITS_NS[unit]) for number, unit in pieces)


def duration_text(value_ns: int) -> str:
    """As Go prints a duration: `1h30m0s`, `1.5s`, `50ms`. Go: time.Duration.String."""
    for unit in ("ns", "µs", "ms"):
        if abs(value_ns) < 1000 * _UNITS_NS[unit] and value_ns:
            return f"{_decimal(value_ns, _UNITS_NS[unit])}{unit}"
    minutes, rest = divmod(abs(value_ns), 60 * NS)
    hours, minutes = divmod(minutes, 60)
    leading = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{'-' if value_ns < 0 else ''}{leading}{_decimal(rest, NS)}s"


def _decimal(value: int, unit: int) -> str:
    """`value / unit` in full, without trailing zeros."""
    whole, rest = divmod(abs(value), unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def moment_ns(text: str, now_ns: int) -> int:
    """Seconds since 1970 with a fraction, RFC 3339, or a duration before now (`24h`).

    Raises ValueError.
    """
    ago = duration_ns(text)
    if ago is not None:
        return now_ns - ago
    seconds, _, fraction = text.partition(".")
    if seconds.isdigit() and len(seconds) < 12 and (not fraction or fraction.isdigit()):
        return int(seconds) * NS + int(fraction[:9].ljust(9, "0") or 0)
    return parse_rfc3339(text)


def until(text: str, now_s: float) -> float:
    """The moment of a filter `until`, in seconds since 1970. Raises InvalidArgument."""
    try:
        return moment_ns(text, int(now_s * NS)) / NS
    except ValueError:
        raise errors.InvalidArgument(f"invalid filter 'until={text}'") from None
