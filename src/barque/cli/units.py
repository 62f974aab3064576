"""Sizes, durations, times and identifiers as Docker's tables print them."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
SHORT_ID = 12


def _scaled(value: float, base: float, names: tuple[str, ...], digits: int) -> str:
    index = 0
    while value >= base and index < len(names) - 1:
        value /= base
        index += 1
    return f"{value:.{digits}g}{names[index]}"


def size(count: float, digits: int = 3) -> str:
    """1982617 as "1.98MB": powers of 1000."""
    return _scaled(float(count), 1000.0, _DECIMAL, digits)


def binary_size(count: float) -> str:
    """67108864 as "64MiB": powers of 1024."""
    return _scaled(float(count), 1024.0, _BINARY, 4)


def duration(seconds: float) -> str:
    """About how long: "5 seconds", "About an hour", "3 weeks"."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(stamp: float) -> str:
    return duration(time.time() - stamp) + " ago"


def local_time(stamp: float) -> str:
    """ "2026-11-21 03:40:26 +0000 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(stamp))


def short_id(text: str) -> str:
    """The first twelve digits, without the algorithm."""
    return text.rpartition(":")[2][:SHORT_ID] if ":" in text else text[:SHORT_ID]


def ellipsis(text: str, width: int) -> str:
    """At most `width` characters; the last is an ellipsis where something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…" if width > 1 else text[:width]


def quoted(text: str) -> str:
    """A text in double quotes, with Go's escapes."""
    names = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a"}
    names |= {"\b": "\\b", "\f": "\\f", "\v": "\\v"}
    return '"' + "".join(names.get(c) or _plain(c) for c in text) + '"'


def _plain(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
