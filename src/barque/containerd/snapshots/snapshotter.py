"""What a snapshotter is: directories (or devices) for numbers, knowing nothing of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from barque.oci.id_maps import IdMaps

VIEW, ACTIVE, COMMITTED = 1, 2, 3

# What a snapshotter can do beyond the contract, in containerd's plugin capabilities; ours are
# named after us.
QUOTA = "io.barque.quota"  # a label `SIZE_LABEL` bounds an active snapshot
REBASE = "rebase"  # a commit may name the parent that a snapshot was made without
APART = "io.barque.apart"  # as REBASE, where Diff was told by this annotation to apply it so
SIZE_LABEL = "io.barque.snapshot.size"  # bytes, decimal


class Mount(NamedTuple):
    """containerd.types.Mount: how to see a snapshot."""

    type: str
    source: str
    options: tuple[str, ...]
    target: str = ""


class Usage(NamedTuple):
    size: int = 0  # bytes on disk
    inodes: int = 0


@runtime_checkable
class Settles(Protocol):
    """A snapshotter in directories, whose layers may be made durable after their commit."""

    def files(self, number: int) -> str:
        """The directory that a layer is applied onto."""

    def finish(self, number: int, parents: Sequence[int]) -> Usage:
        """`seal`, and nothing is durable yet."""

    def sync(self) -> None:
        """All that was finished is durable when this returns."""


class Snapshotter(Protocol):
    """Makes file systems out of numbered layers.

    A number is given out once and never again. `parents` are the numbers below, nearest first; all
    of them were sealed. The store above calls `make` once a number, then `mounts` any number of
    times, then maybe `seal` (for an active one; again when the commit failed after it) and, once
    it is committed, `sealed`, and in the end `remove`.
    Every method blocks on the disk for as long as it takes; only `mounts` is immediate, and `make`
    of one that is not `slow`.
    """

    @property
    def name(self) -> str: ...

    @property
    def slow(self) -> bool:
        """Whether `make` takes time with the size of what is below."""

    @property
    def capabilities(self) -> tuple[str, ...]: ...

    def make(
        self,
        number: int,
        parents: Sequence[int],
        kind: int,
        size: int = 0,
        ids: IdMaps | None = None,
    ) -> None:
        """Make what `number` needs. A leftover of the same number, from a crash, is replaced.

        With a `size` no more bytes than that can be in it; with `ids` it is seen with others.
        Raises Unsupported where that cannot be.
        """

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        """The mounts that show the snapshot: read-only for VIEW, writable for ACTIVE."""

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        """Returns once the content would survive a power cut; nobody writes it any more.

        `rebased`: it was made without parents, which are these from now on.
        """

    def sealed(self, number: int) -> None:
        """It is committed: what only an active one needs can go."""

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        """What the snapshot itself takes, without its parents."""

    def remove(self, number: int) -> None:
        """Free everything of `number`; gone is done. May go on in the background."""

    def numbers(self) -> set[int]:
        """The numbers that something on disk exists for."""

    def wait(self) -> None:
        """Returns when all that was removed so far is freed."""

    def close(self) -> None:
        """The server ends; what is removed but not yet freed is freed at its next start."""
