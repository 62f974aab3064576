"""The kinds of flag values beyond text and truth, read as Go's library and Docker's read them.

Each parser raises InvalidArgument with the reason alone; the flag's name is added by `cli.flags`.
"""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION_NS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DIGITS = "0123456789"


def _integer(function: str, text: str, low: int, high: int) -> int:
    sign, digits = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not digits or digits.strip(_DIGITS) or (function == "ParseUint" and sign):
        raise errors.InvalidArgument(f'strconv.{function}: parsing "{text}": invalid syntax')
    value = int(text)
    if not low <= value <= high:
        raise errors.InvalidArgument(f'strconv.{function}: parsing "{text}": value out of range')
    return value


def int64(text: str) -> int:
    return _integer("ParseInt", text, -(1 << 63), (1 << 63) - 1)


def uint16(text: str) -> int:
    return _integer("ParseUint", text, 0, (1 << 16) - 1)


def uint64(text: str) -> int:
    return _integer("ParseUint", text, 0, (1 << 64) - 1)


def float64(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise errors.InvalidArgument(
            f'strconv.ParseFloat: parsing "{text}": invalid syntax'
        ) from None


def size(text: str) -> int:
    """Bytes from "512", "64m", "1.5 GiB": powers of 1024 whatever the suffix."""
    end = max((text.rfind(c) for c in _DIGITS + ". "), default=-1)
    if end < 0:
        raise errors.InvalidArgument(f"invalid size: '{text}'")
    number = text[:end] if text[end] == " " else text[: end + 1]
    suffix = text[end + 1 :].lower()
    value = float64(number)
    if not 0 <= value < float("inf"):
        raise errors.InvalidArgument(f"invalid size: '{text}'")
    if suffix in ("", "b"):
        return int(value)
    if suffix[0] not in _BINARY or suffix[1:] not in ("", "b", "ib"):
        raise errors.InvalidArgument(f"invalid suffix: '{suffix}'")
    return int(value * _BINARY[suffix[0]])


def size_or_unlimited(text: str) -> int:
    return -1 if text == "-1" else size(text)


def decimal_nano(text: str) -> int:
    """ "1.5" as 1,500,000,000. More than nine places are refused."""
    sign = -1 if text[:1] == "-" else 1
    whole, _, fraction = text.lstrip("+-").partition(".")
    if not (whole + fraction) or (whole + fraction).strip(_DIGITS):
        raise errors.InvalidArgument(f"failed to parse {text} as a rational number")
    if fraction[9:].strip("0"):
        raise errors.InvalidArgument("value is too precise")
    return sign * int((whole or "0") + fraction[:9].ljust(9, "0"))


def duration_ns(text: str) -> int:
    """Go's time.ParseDuration: "1m30s", "1.5h", "300ms", "0"."""
    rest = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise errors.InvalidArgument(f'time: invalid duration "{text}"')
    total = 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip(_DIGITS + "."))
        unit_end = digits
        while unit_end < len(rest) and rest[unit_end] not in _DIGITS + ".":
            unit_end += 1
        number, unit, rest = rest[:digits], rest[digits:unit_end], rest[unit_end:]
        if number in ("", ".") or number.count(".") > 1:
            raise errors.InvalidArgument(f'time: invalid duration "{text}"')
        if not unit:
            raise errors.InvalidArgument(f'time: missing unit in duration "{text}"')
        if unit not in _DURATION_NS:
            raise errors.InvalidArgument(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _DURATION_NS[unit]
    return -round(total) if text[0] == "-" else round(total)


PARSERS: dict[str, Callable[[str], float]] = {
    "int": int64,
    "uint": uint64,
    "uint16": uint16,
    "float": float64,
    "bytes": size,
    "bytes-or-unlimited": size_or_unlimited,
    "decimal": decimal_nano,
    "duration": duration_ns,
}
