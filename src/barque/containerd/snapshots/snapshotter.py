"""What a snapshotter is: directories (or devices) for numbers, knowing nothing of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

VIEW, ACTIVE, COMMITTED = 1, 2, 3


class Mount(NamedTuple):
    """containerd.types.Mount: how to see a snapshot."""

    type: str
    source: str
    options: tuple[str, ...]
    target: str = ""


class Usage(NamedTuple):
    size: int = 0  # bytes on disk
    inodes: int = 0


class Snapshotter(Protocol):
    """Makes file systems out of numbered layers.

    A number is given out once and never again. `parents` are the numbers below, nearest first; all
    of them were sealed. The store above calls `make` once a number, then `mounts` any number of
    times, then maybe `seal` (once, for an active one), and in the end `remove`.
    Every method blocks on the disk for as long as it takes; only `mounts` is immediate.
    """

    name: str

    def make(self, number: int, parents: Sequence[int], kind: int) -> None:
        """Make what `number` needs. A leftover of the same number, from a crash, is replaced."""

    def mounts(self, number: int, parents: Sequence[int], kind: int) -> list[Mount]:
        """The mounts that show the snapshot: read-only for VIEW, writable for ACTIVE."""

    def seal(self, number: int) -> Usage:
        """Returns once the content would survive a power cut; nobody writes it any more."""

    def usage(self, number: int) -> Usage:
        """What the snapshot itself takes, without its parents."""

    def remove(self, number: int) -> None:
        """Free everything of `number`; gone is done. May go on in the background."""

    def numbers(self) -> set[int]:
        """The numbers that something on disk exists for."""
