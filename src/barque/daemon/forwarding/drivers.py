"""The drivers by name, and what their options are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from barque.daemon.forwarding import fluentd, gelf, journald, syslog
from barque.daemon.forwarding.message import Message, Source
from barque.daemon.forwarding.wire import Wire

COMMON_OPTIONS = frozenset(
    {
        *("tag", "labels", "labels-regex", "env", "env-regex"),
        *("cache-disabled", "cache-max-size", "cache-max-file"),
        *("mode", "max-buffer-size"),
    }
)
OPTIONS = {
    "fluentd": fluentd.OPTIONS | COMMON_OPTIONS,
    "gelf": gelf.OPTIONS | COMMON_OPTIONS,
    "journald": journald.OPTIONS | COMMON_OPTIONS,
    "syslog": syslog.OPTIONS | COMMON_OPTIONS,
}


class Driver(Protocol):
    """`wire` is opened before the first `send`, and again after one that raised OSError."""

    wire: Wire

    async def send(self, messages: Sequence[Message]) -> None: ...


def make(name: str, options: Mapping[str, str], source: Source) -> Driver:
    """Raises InvalidArgument for options that it cannot follow."""
    if name == "syslog":
        return syslog.Syslog(options, source)
    if name == "journald":
        return journald.Journald(options, source)
    if name == "gelf":
        return gelf.Gelf(options, source)
    return fluentd.Fluentd(options, source)
