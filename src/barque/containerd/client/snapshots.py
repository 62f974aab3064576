"""The snapshots service: file systems in layers, by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from barque.containerd.client import mounts
from barque.containerd.client.channel import Channel
from barque.containerd.client.mounts import Mount
from barque.containerd.proto import snapshots_pb2 as api

SERVICE = "containerd.services.snapshots.v1.Snapshots"
DEFAULT_SNAPSHOTTER = "overlayfs"
KINDS = {1: "view", 2: "active", 3: "committed"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`kind`: view, active or committed. `parent` is "" at the bottom."""

    key: str
    parent: str
    kind: str
    labels: Mapping[str, str]
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot itself takes, without its parents."""

    size: int
    inodes: int


class Snapshots:
    """The snapshots of one snapshotter; `of` gives those of another."""

    def __init__(self, channel: Channel, snapshotter: str = DEFAULT_SNAPSHOTTER) -> None:
        self._channel = channel
        self.snapshotter = snapshotter

    def of(self, snapshotter: str) -> Snapshots:
        return Snapshots(self._channel, snapshotter)

    async def prepare(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> Sequence[Mount]:
        """A writable snapshot on `parent` (a committed one, or none), and how to mount it.

        Raises AlreadyExists, NotFound for the parent.
        """
        request = api.PrepareSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels
        )
        answer = await self._channel.unary(SERVICE, "Prepare", request, api.PrepareSnapshotResponse)
        return [mounts.from_message(mount) for mount in answer.mounts]

    async def view(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> Sequence[Mount]:
        """As `prepare`, read-only."""
        request = api.ViewSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels
        )
        answer = await self._channel.unary(SERVICE, "View", request, api.ViewSnapshotResponse)
        return [mounts.from_message(mount) for mount in answer.mounts]

    async def mounts(self, key: str) -> Sequence[Mount]:
        request = api.MountsRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.unary(SERVICE, "Mounts", request, api.MountsResponse)
        return [mounts.from_message(mount) for mount in answer.mounts]

    async def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str] | None = None,
        *,
        parent: str = "",
    ) -> None:
        """The active `key` becomes the committed `name`. Raises AlreadyExists, NotFound.

        `parent` is given to one that was made without; only where the snapshotter can "rebase".
        """
        request = api.CommitSnapshotRequest(
            snapshotter=self.snapshotter, name=name, key=key, labels=labels, parent=parent
        )
        await self._channel.unary(SERVICE, "Commit", request, Empty)

    async def remove(self, key: str) -> None:
        """Raises NotFound, and Conflict for a parent of others."""
        request = api.RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key)
        await self._channel.unary(SERVICE, "Remove", request, Empty)

    async def stat(self, key: str) -> Snapshot:
        """Raises NotFound."""
        request = api.StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.unary(SERVICE, "Stat", request, api.StatSnapshotResponse)
        return _snapshot(answer.info)

    async def set_labels(self, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Set these labels and leave all others; an empty value removes one."""
        request = api.UpdateSnapshotRequest(
            snapshotter=self.snapshotter,
            info=api.Info(name=key, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{label}" for label in labels]),
        )
        answer = await self._channel.unary(SERVICE, "Update", request, api.UpdateSnapshotResponse)
        return _snapshot(answer.info)

    async def list(self, filters: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
        request = api.ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        pages = self._channel.stream(SERVICE, "List", request, api.ListSnapshotsResponse)
        async for page in pages:
            for info in page.info:
                yield _snapshot(info)

    async def cleanup(self) -> None:
        """Returns when what was removed is freed."""
        request = api.CleanupRequest(snapshotter=self.snapshotter)
        await self._channel.unary(SERVICE, "Cleanup", request, Empty)

    async def usage(self, key: str) -> Usage:
        request = api.UsageRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.unary(SERVICE, "Usage", request, api.UsageResponse)
        return Usage(answer.size, answer.inodes)


def _snapshot(info: api.Info) -> Snapshot:
    return Snapshot(
        info.name,
        info.parent,
        KINDS.get(info.kind, "unknown"),
        dict(info.labels),
        info.created_at.ToNanoseconds(),
        info.updated_at.ToNanoseconds(),
    )
