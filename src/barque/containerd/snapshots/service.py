"""gRPC Snapshots: one service for all snapshotters, each request names one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.collector import Collector
from barque.containerd.events import Events
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.leases import hold
from barque.containerd.messages import check_mask, lookup, timestamp, update_map, without_empty
from barque.containerd.metadata import Metadata
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.proto import snapshots_pb2 as api
from barque.containerd.proto import types_pb2
from barque.containerd.references import References
from barque.containerd.settling import Settling
from barque.containerd.snapshots.snapshotter import ACTIVE, VIEW, Mount
from barque.containerd.snapshots.store import Snapshot, SnapshotStore
from barque.containerd.snapshots.stores import SnapshotStores
from barque.errors import InvalidArgument

KIND_NAMES = {1: "view", 2: "active", 3: "committed"}
INFOS_PER_MESSAGE = 100


class Snapshots:
    def __init__(
        self,
        stores: SnapshotStores,
        metadata: Metadata,
        references: References,
        events: Events,
        collector: Collector,
        settling: Settling,
    ) -> None:
        self._stores = stores
        self._metadata = metadata
        self._references = references
        self._events = events
        self._collector = collector
        self._settling = settling

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Snapshots"],
            {
                "Prepare": self.prepare,
                "View": self.view,
                "Mounts": AtOnce(self.mounts),
                "Commit": self.commit,
                "Remove": AtOnce(self.remove),
                "Stat": AtOnce(self.stat),
                "Update": AtOnce(self.update),
                "List": self.list_all,
                "Usage": self.usage,
                "Cleanup": self.cleanup,
            },
        )

    async def prepare(
        self, call: Call, request: api.PrepareSnapshotRequest
    ) -> api.PrepareSnapshotResponse:
        return api.PrepareSnapshotResponse(mounts=await self._make(call, request, ACTIVE))

    async def view(self, call: Call, request: api.ViewSnapshotRequest) -> api.ViewSnapshotResponse:
        return api.ViewSnapshotResponse(mounts=await self._make(call, request, VIEW))

    async def _make(
        self,
        call: Call,
        request: api.PrepareSnapshotRequest | api.ViewSnapshotRequest,
        kind: int,
    ) -> Iterable[types_pb2.Mount]:
        store, namespace = self._store(request.snapshotter), namespace_of(call)
        if not request.key:
            raise InvalidArgument("snapshot key must not be empty: invalid argument")
        labels = without_empty(check_labels(request.labels))
        wanted = (namespace, request.key, request.parent, kind, labels)
        async with store.ahead(*wanted) as made:
            with self._metadata.transaction():
                snapshot = store.make(*wanted, made)
                hold(self._metadata, self._references, call, store.kind, request.key)
        self._events.publish(
            namespace,
            "/snapshot/prepare",
            happened.SnapshotPrepare(
                key=request.key, parent=request.parent, snapshotter=request.snapshotter
            ),
        )
        self._metadata.durable_soon()
        return map(_mount, store.mounts(snapshot))

    async def mounts(self, call: Call, request: api.MountsRequest) -> api.MountsResponse:
        store = self._store(request.snapshotter)
        snapshot = store.stat(namespace_of(call), request.key)
        return api.MountsResponse(mounts=map(_mount, store.mounts(snapshot)))

    async def commit(self, call: Call, request: api.CommitSnapshotRequest) -> Empty:
        store, namespace = self._store(request.snapshotter), namespace_of(call)
        if not request.name:
            raise InvalidArgument("snapshot name must not be empty: invalid argument")
        labels = without_empty(check_labels(request.labels))
        wanted = (namespace, request.name, request.key)
        snapshot = store.committable(*wanted)
        origin = self._settling.origin(store, snapshot, namespace, request.name, request.parent)
        _, usage = await store.seal(*wanted, request.parent, durable=origin is None)
        with self._metadata.transaction():
            number = store.commit(*wanted, labels, usage, request.parent)
            hold(self._metadata, self._references, call, store.kind, request.name)
            if origin is not None:
                self._settling.add(number, origin)
        store.sealed(number)
        self._events.publish(
            namespace,
            "/snapshot/commit",
            happened.SnapshotCommit(
                key=request.key, name=request.name, snapshotter=request.snapshotter
            ),
        )
        if origin is not None:
            self._settling.soon()
            self._metadata.durable_soon()
        else:
            await self._metadata.durable()
        return Empty()

    async def remove(self, call: Call, request: api.RemoveSnapshotRequest) -> Empty:
        store, namespace = self._store(request.snapshotter), namespace_of(call)
        store.remove(namespace, request.key)
        event = happened.SnapshotRemove(key=request.key, snapshotter=request.snapshotter)
        self._events.publish(namespace, "/snapshot/remove", event)
        self._metadata.durable_soon()
        self._collector.soon()
        return Empty()

    async def stat(self, call: Call, request: api.StatSnapshotRequest) -> api.StatSnapshotResponse:
        store = self._store(request.snapshotter)
        return api.StatSnapshotResponse(info=_info(store.stat(namespace_of(call), request.key)))

    async def update(
        self, call: Call, request: api.UpdateSnapshotRequest
    ) -> api.UpdateSnapshotResponse:
        store, namespace, key = (
            self._store(request.snapshotter),
            namespace_of(call),
            request.info.name,
        )
        check_mask(request.update_mask, ("labels",), f"snapshot {key}")
        with self._metadata.transaction():
            current = store.stat(namespace, key).labels
            labels = check_labels(update_map(current, request.info.labels, request.update_mask))
            snapshot = store.set_labels(namespace, key, labels)
        self._metadata.durable_soon()
        return api.UpdateSnapshotResponse(info=_info(snapshot))

    async def list_all(
        self, call: Call, request: api.ListSnapshotsRequest
    ) -> AsyncIterator[api.ListSnapshotsResponse]:
        store = self._store(request.snapshotter)
        accepts = filters.any_of(filters.parse_all(request.filters))
        found = [one for one in store.all(namespace_of(call)) if accepts(_view(one))]
        for at in range(0, len(found), INFOS_PER_MESSAGE):
            page = found[at : at + INFOS_PER_MESSAGE]
            yield api.ListSnapshotsResponse(info=map(_info, page))

    async def usage(self, call: Call, request: api.UsageRequest) -> api.UsageResponse:
        store = self._store(request.snapshotter)
        usage = await store.usage(store.stat(namespace_of(call), request.key))
        return api.UsageResponse(size=usage.size, inodes=usage.inodes)

    async def cleanup(self, call: Call, request: api.CleanupRequest) -> Empty:
        """Returns when what was removed is freed."""
        await asyncio.to_thread(self._store(request.snapshotter).wait)
        return Empty()

    def _store(self, name: str) -> SnapshotStore:
        if not name:
            raise InvalidArgument("snapshotter argument missing: invalid argument")
        return self._stores.open(name)


def _mount(mount: Mount) -> types_pb2.Mount:
    return types_pb2.Mount(
        type=mount.type, source=mount.source, target=mount.target, options=mount.options
    )


def _info(snapshot: Snapshot) -> api.Info:
    return api.Info(
        name=snapshot.key,
        parent=snapshot.parent,
        kind=api.Kind.ValueType(snapshot.kind),
        created_at=timestamp(snapshot.created_ns),
        updated_at=timestamp(snapshot.updated_ns),
        labels=snapshot.labels,
    )


def _view(snapshot: Snapshot) -> filters.Lookup:
    fields = {
        "name": snapshot.key,
        "parent": snapshot.parent,
        "kind": KIND_NAMES[snapshot.kind],
    }
    return lookup(fields, snapshot.labels)
