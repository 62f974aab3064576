"""SIGHUP: read the configuration again and take over what may change while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from barque import errors
from barque.daemon.config import Config, load
from barque.daemon.events import Events
from barque.daemon.options import RELOADABLE

log = logging.getLogger(__name__)
Apply = Callable[[Config], None]


class Reloader:
    """`config` is what holds now; `takers` are told of every change, and may refuse it."""

    def __init__(
        self, config: Config, arguments: Sequence[str], events: Events, engine: tuple[str, str]
    ) -> None:
        """`engine` is the id and the name that the event tells."""
        self.config = config
        self._arguments = arguments
        self._events = events
        self._engine = engine
        self.takers: list[Apply] = []

    def reload(self) -> None:
        """A configuration that cannot be followed changes nothing, and is told in the log."""
        try:
            asked = load(self._arguments)
            changed = _changed(self.config, asked)
            for name in sorted(changed - RELOADABLE):
                log.warning("%s changed: it is taken over when the daemon starts again", name)
            wanted = replace(self.config, **{n: getattr(asked, n) for n in changed & RELOADABLE})
            for taker in self.takers:
                taker(wanted)
        except errors.BarqueError as error:
            log.error("the configuration was not reloaded: %s", error)
            return
        self.config = wanted
        identity, name = self._engine
        told = {n: _shown(getattr(wanted, n)) for n in sorted(RELOADABLE)}
        self._events.publish("daemon", "reload", identity, {"name": name, **told})
        log.info("reloaded: %s", ", ".join(sorted(changed & RELOADABLE)) or "nothing changed")


def _changed(before: Config, now: Config) -> set[str]:
    return {f.name for f in fields(Config) if getattr(before, f.name) != getattr(now, f.name)}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple | dict) else str(value)
