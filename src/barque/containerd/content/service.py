"""gRPC Content over the store: the protocol of containerd's remote writers and readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.content.ingest import Ingest
from barque.containerd.content.store import UNCOMPRESSED_LABEL, ContentStore, Info
from barque.containerd.content.writer import Coming, Writer
from barque.containerd.events import Events
from barque.containerd.grpc import AtOnce, Call, Kept, OutOfRange, Service
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.messages import check_mask, lookup, timestamp, update_map
from barque.containerd.metadata import Metadata
from barque.containerd.proto import content_pb2 as api
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.references import References
from barque.containerd.threads import in_thread
from barque.errors import InvalidArgument
from barque.linux import allocator
from barque.oci import digest as digests

READ_BYTES = 256 << 10  # of each reader in flight: memory, more than messages
SMALL_BYTES = 1 << 16
INFOS_PER_MESSAGE = 100
QUIET_S = 3.0  # without a writer's end


class Content:
    def __init__(
        self,
        store: ContentStore,
        metadata: Metadata,
        references: References,
        events: Events,
        coming: Coming | None = None,
    ) -> None:
        """`coming` is told of blobs that clients begin to write."""
        self._store = store
        self._metadata = metadata
        self._references = references
        self._events = events
        self._coming = coming
        self._writers: set[Writer] = set()
        self._quiet: asyncio.TimerHandle | None = None

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Content"],
            {
                "Info": Kept(self.info, self._version),
                "Update": self.update,
                "List": self.list_all,
                "Delete": AtOnce(self.delete),
                "Read": Kept(self.read, self._version),
                "Status": self.status,
                "ListStatuses": self.list_statuses,
                "Write": self.write,
                "Abort": AtOnce(self.abort),
            },
        )

    def _version(self) -> int:
        """Blobs never change: a client reads an image's documents anew for each container."""
        return self._store.changes

    def info(self, call: Call, request: api.InfoRequest) -> api.InfoResponse:
        digests.parse(request.digest)
        return api.InfoResponse(info=_message(self._store.info(namespace_of(call), request.digest)))

    async def update(self, call: Call, request: api.UpdateRequest) -> api.UpdateResponse:
        namespace, digest = namespace_of(call), request.info.digest
        digests.parse(digest)
        check_mask(request.update_mask, ("labels",), f"content {digest}")
        with self._metadata.transaction():
            current = self._store.info(namespace, digest).labels
            labels = check_labels(update_map(current, request.info.labels, request.update_mask))
            info = self._store.set_labels(namespace, digest, labels)
        if _changed(current, labels) <= {UNCOMPRESSED_LABEL}:
            self._metadata.durable_soon()  # each layer of an image gets it in turn
        else:
            await self._metadata.durable()
        return api.UpdateResponse(info=_message(info))

    async def list_all(
        self, call: Call, request: api.ListContentRequest
    ) -> AsyncIterator[api.ListContentResponse]:
        accepts = filters.any_of(filters.parse_all(request.filters))
        found = [info for info in self._store.all(namespace_of(call)) if accepts(_view(info))]
        for at in range(0, len(found), INFOS_PER_MESSAGE):
            page = found[at : at + INFOS_PER_MESSAGE]
            yield api.ListContentResponse(info=map(_message, page))

    async def delete(self, call: Call, request: api.DeleteContentRequest) -> Empty:
        namespace = namespace_of(call)
        digests.parse(request.digest)
        self._store.delete(namespace, request.digest)
        event = happened.ContentDelete(digest=request.digest)
        self._events.publish(namespace, "/content/delete", event)
        return Empty()

    def read(
        self, call: Call, request: api.ReadContentRequest
    ) -> AsyncIterator[api.ReadContentResponse] | api.ReadContentResponse:
        digests.parse(request.digest)
        info = self._store.info(namespace_of(call), request.digest)
        at = max(request.offset, 0)
        if at > info.size:
            raise OutOfRange(f"read past object length {info.size} bytes")
        end = min(at + request.size, info.size) if request.size > 0 else info.size
        if not 0 < end - at <= SMALL_BYTES:
            opened = partial(self._store.open, namespace_of(call), request.digest)
            return _read(opened, at, end, request.digest)
        fd = self._store.open_known(request.digest)
        try:  # a document: a thread would cost more than the read
            data = os.pread(fd, end - at, at)
        finally:
            os.close(fd)
        if len(data) < end - at:
            raise _short(request.digest, at + len(data), end)
        return api.ReadContentResponse(offset=at, data=data)

    async def status(self, call: Call, request: api.StatusRequest) -> api.StatusResponse:
        await self._settled(namespace_of(call))
        ingest = self._store.find_ingest(namespace_of(call), request.ref)
        return api.StatusResponse(status=_status(ingest))

    async def list_statuses(
        self, call: Call, request: api.ListStatusesRequest
    ) -> api.ListStatusesResponse:
        accepts = filters.any_of(filters.parse_all(request.filters))
        await self._settled(namespace_of(call))
        found: Iterable[Ingest] = self._store.ingests(namespace_of(call))
        return api.ListStatusesResponse(
            statuses=[_status(one) for one in found if accepts(lookup({"ref": one.ref}))]
        )

    async def abort(self, call: Call, request: api.AbortRequest) -> Empty:
        self._store.abort(namespace_of(call), request.ref)
        return Empty()

    async def write(
        self, call: Call, requests: AsyncIterator[api.WriteContentRequest]
    ) -> AsyncIterator[api.WriteContentResponse]:
        first = await anext(aiter(requests), None)
        if first is None or not first.ref:
            raise InvalidArgument("first message must have a reference: invalid argument")
        writer = Writer(self._store, self._metadata, self._references, call, first, self._coming)
        self._writers.add(writer)
        try:
            yield await self._answer(writer, first)
            async for request in requests:
                yield await self._answer(writer, request)
        finally:
            await writer.close()
            self._writers.discard(writer)
            self._written()

    def _written(self) -> None:
        """Memory that was kept for the next pieces goes when none come."""
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(QUIET_S, allocator.trim)

    async def _settled(self, namespace: str) -> None:
        """What was answered is in the files whose sizes are to be told."""
        for writer in [one for one in self._writers if one.namespace == namespace]:
            await writer.settled()

    async def _answer(
        self, writer: Writer, request: api.WriteContentRequest
    ) -> api.WriteContentResponse:
        response = await writer.handle(request)
        if request.action == api.COMMIT:
            self._events.publish(
                writer.namespace,
                "/content/create",
                happened.ContentCreate(digest=response.digest, size=response.offset),
            )
        return response


async def _read(
    opened: Callable[[], int], at: int, end: int, digest: str
) -> AsyncIterator[api.ReadContentResponse]:
    fd = opened()
    try:
        while at < end:
            data = await in_thread(os.pread, fd, min(READ_BYTES, end - at), at)
            if not data:
                raise _short(digest, at, end)
            yield api.ReadContentResponse(offset=at, data=data)
            at += len(data)
    finally:
        os.close(fd)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def _short(digest: str, at: int, end: int) -> OutOfRange:
    return OutOfRange(f"content {digest} ends at {at} of {end} bytes")


def _message(info: Info) -> api.Info:
    return api.Info(
        digest=info.digest,
        size=info.size,
        labels=info.labels,
        created_at=timestamp(info.created_ns),
        updated_at=timestamp(info.updated_ns),
    )


def _status(ingest: Ingest) -> api.Status:
    return api.Status(
        started_at=timestamp(ingest.started_ns),
        updated_at=timestamp(ingest.updated_ns),
        ref=ingest.ref,
        offset=ingest.offset,
        total=ingest.total,
        expected=ingest.expected,
    )


def _view(info: Info) -> filters.Lookup:
    return lookup({"digest": info.digest, "size": str(info.size)}, info.labels)
