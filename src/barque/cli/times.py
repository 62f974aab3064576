"""--since and --until: a moment, or how long ago, as seconds since 1970 with nanoseconds."""

from __future__ import annotations

import time

from barque import errors
from barque.cli.values import duration_ns


def timestamp(text: str) -> str:
    """ "42m", "2026-11-21", "2026-11-21T03:40:26.5Z", "1795232426.5" as the API takes them.

    A date without zone is local time, and 0 the beginning of time. Raises InvalidArgument.
    """
    if text == "0":
        return text
    try:
        ago = duration_ns(text)
    except errors.InvalidArgument:
        pass
    else:
        now = time.time_ns() - ago
        return f"{now // 10**9}.{now % 10**9:09d}"
    if "-" not in text:
        if text.replace(".", "", 1).isdigit():
            return text
        raise errors.InvalidArgument(f'failed to parse value as time or duration: "{text}"')
    return _moment(text)


def _moment(text: str) -> str:
    from datetime import datetime

    whole, dot, fraction = text.partition(".")
    zone = ""
    if dot:
        digits = len(fraction) - len(fraction.lstrip("0123456789"))
        fraction, zone = fraction[:digits], fraction[digits:]
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        raise errors.InvalidArgument(
            f'failed to parse value as time or duration: "{text}"'
        ) from None
    return f"{int(moment.timestamp())}.{(fraction or '0')[:9].ljust(9, '0')}"
