"""What images need of containerd: names, blobs, snapshots of layers, leases.

A blob or snapshot is kept while something leads to it: a lease, an image's name, a label
`containerd.io/gc.ref...` of a blob that is itself kept. So an operation takes a lease, writes what
it needs under it, from the leaves to the root, gives it a name, and ends the lease.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from barque.oci.image import Descriptor

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"  # of a layer's blob: its diff id


Begun = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Record:
    """An image as containerd knows it: a name for a manifest or index."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    digest: str
    size: int
    labels: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """One namespace of one containerd, with one snapshotter. Absent things are None, not errors,
    where the type says so; else errors are `barque.errors` kinds.
    """

    @property
    def snapshotter(self) -> str: ...

    async def get_image(self, name: str) -> Record | None: ...

    async def list_images(self) -> list[Record]: ...

    async def list_hidden(self) -> list[Record]:
        """Names that belong to other snapshotters than ours."""

    async def put_image(self, record: Record) -> None:
        """Creates the name, or points it elsewhere, labels and all."""

    async def delete_image(self, name: str, *, collect: bool) -> None:
        """Removes a name; an absent one is fine. `collect`: returns after garbage collection."""

    async def get_blob(self, digest: str, lease: str = "") -> Blob | None:
        """With a lease, a blob that is there is held by it from before the answer."""

    def read(self, digest: str, offset: int = 0) -> AsyncGenerator[bytes, None]: ...

    async def write(
        self,
        chunks: AsyncIterator[bytes],
        lease: str,
        *,
        digest: str = "",
        size: int = 0,
        labels: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> Blob:
        """Stores a blob, visible when this returns and not before.

        Raises DataLoss when `digest` or `size` is given and is not that of `chunks`. A failing
        `chunks` leaves nothing. A blob that is there already is fine; labels are added to it.
        `begun` is told what to call it when it begins to come, for `apply_coming`.
        """

    async def write_unpacked(
        self, chunks: AsyncIterator[bytes], media_type: str, key: str, lease: str
    ) -> tuple[Blob, str]:
        """As `write` of a layer, then `apply` of it onto nothing, at once where containerd can.

        Returns the blob and its diff id. The snapshot `key` is there even when this fails.
        """

    async def fetch(
        self,
        open_at: Callable[[int], AsyncGenerator[bytes, None]],
        lease: str,
        *,
        digest: str,
        size: int,
        labels: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> Blob:
        """As `write`, from a source that can begin anywhere.

        What came of a large blob before a transfer broke off is kept, and gone on with by the next
        attempt, of this daemon or the next one; bytes that prove wrong are fetched anew.
        """

    async def applies_coming(self) -> bool:
        """Whether `apply_coming` is there, here."""

    async def apply_coming(
        self, ref: str, media_type: str, key: str, lease: str, *, apart: bool
    ) -> str:
        """As `apply`, onto nothing, of what `write` or `fetch` are bringing as `ref`; returns when
        they have committed it. `apart`: a parent may be given to it at its commit.

        Raises Unavailable or NotFound when it does not come, or not that way.
        """

    async def drop_blob(self, digest: str) -> None:
        """Removes a blob that is damaged, whatever leads to it; an absent one is fine."""

    async def label_blob(self, digest: str, labels: Mapping[str, str]) -> None:
        """Sets these labels and keeps others."""

    async def has_snapshot(self, key: str, lease: str = "") -> bool:
        """With a lease, a snapshot that is there is held by it from before the answer."""

    async def snapshot_size(self, key: str) -> int:
        """Bytes on disk of this snapshot alone, without its parents."""

    async def apply(self, layer: Descriptor, key: str, parent: str, lease: str) -> str:
        """Makes an active snapshot `key` on `parent` ("" for none) and unpacks the blob of `layer`
        into it; returns the diff id, the digest of the uncompressed archive.
        """

    async def independent_layers(self) -> bool:
        """Whether a layer can be unpacked before the one below it is (capability "rebase")."""

    async def commit_snapshot(self, name: str, key: str, lease: str, parent: str = "") -> None:
        """Freezes `key` under `name`; when that is there already, `key` is dropped instead.

        `parent`: it was made without one, which it can be with independent layers.
        """

    async def difference(
        self, key: str, parent: str, lease: str, places: Sequence[str] = ()
    ) -> tuple[Descriptor, str]:
        """Stores, as a layer, what makes the snapshot `key` from the committed `parent` ("" for
        none); returns it with its diff id. What changes meanwhile may be in it or not.

        `places`, without a leading slash, were made to mount on: left out where the store can.
        """

    async def remove_snapshot(self, key: str) -> None:
        """An absent one is fine."""

    async def recover(self) -> None:
        """Gives up what an earlier daemon had under way when it died: its leases, its writes."""

    def changes(self) -> AsyncGenerator[str | None, None]:
        """Names that were changed, by us or by others; None: any may have been, unseen. No end.

        The first item is None, and says that the watch has begun.
        """

    def lease(self) -> AbstractAsyncContextManager[str]:
        """A lease that ends with the block; containerd ends it itself should we be killed."""
