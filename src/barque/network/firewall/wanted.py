"""What a daemon's rules should be, whoever keeps them: its networks and the published ports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from barque.network.direct import direct
from barque.network.firewall.rules import Published, Segment


class Wanted(ABC):
    """The part that both backends have alike. For one thread at a time."""

    polls: bool  # whether a flush is not told, and has to be looked for: see watch.py

    def __init__(self, table: str, *, enabled: bool, ipv6: bool) -> None:
        """Not `enabled`: there are no rules. Not `ipv6`: that family has none of ours."""
        self.table = table
        self.enabled = enabled
        self.accept_mark = ""
        self.direct = False  # published ports are reached at containers' addresses too
        self.keep: Sequence[int] = ()  # what every program that we start holds open
        self.loaded = False
        self._ipv6 = ipv6
        self._segments: dict[str, Segment] = {}
        self._published: set[Published] = set()

    @property
    def bridges(self) -> list[str]:
        return list(self._segments)

    def load(self, segments: Iterable[Segment], published: Iterable[Published]) -> None:
        """Replace all rules by those of these networks and ports."""
        self._segments = {s.bridge: s for s in map(self._kept, segments)}
        self._published = set(published)
        self.reload()

    @abstractmethod
    def reload(self) -> None:
        """Load the rules again as they should be."""

    @abstractmethod
    def missing(self) -> list[str]:
        """What is not there of the rules; empty when they are whole."""

    def repair(self) -> bool:
        """Load the rules again if some are gone; whether they were."""
        if not self.missing():
            return False
        self.reload()
        return True

    def _kept(self, segment: Segment) -> Segment:
        return segment.kept(self.accept_mark, ipv6=self._ipv6, direct=self.direct)

    def _direct(self, ports: Iterable[Published]) -> set[Published]:
        return direct(self._segments.values(), ports)

    def _open(self) -> set[Published]:
        return self._published | self._direct(self._published)
