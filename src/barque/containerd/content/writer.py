"""One stream of Content/Write: what each of its messages does.

Source: containerd, api/services/content/v1 and the local writer.

    STAT      tells how far the ref is
    WRITE     appends at the current offset; an offset of 0 starts again
    COMMIT    as WRITE, then verifies, makes the file durable, and names it; what is not as it was
              expected stays under its ref

A ref whose expected digest another namespace has needs no bytes: the stream says it is complete,
and COMMIT lets this namespace see the blob.

A WRITE of many bytes is answered when it is begun, so that the client makes the next one meanwhile;
what becomes of it is told by the answer to the next message.

The answer to STAT names the file (ours). A client on the same machine may append to that itself: a
WRITE without data, at an offset that the file reaches, says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from barque.containerd.content.ingest import Ingest
from barque.containerd.content.store import ContentStore
from barque.containerd.grpc import Call, OutOfRange
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.leases import hold
from barque.containerd.messages import timestamp, without_empty
from barque.containerd.metadata import Metadata, now_ns
from barque.containerd.proto import content_pb2 as api
from barque.containerd.references import CONTENT, References
from barque.containerd.threads import in_thread, joined
from barque.errors import AlreadyExists, InvalidArgument
from barque.oci import digest as digests

# Smaller writes are done on the event loop: cheaper than a thread, and into the page cache.
INLINE_BYTES = 64 << 10
Coming = Callable[[Ingest, bytes], None]


class Writer:
    """Holds the ref until `close`. Raises AlreadyExists at once when the blob is there."""

    def __init__(
        self,
        store: ContentStore,
        metadata: Metadata,
        references: References,
        call: Call,
        first: api.WriteContentRequest,
        coming: Coming | None = None,
    ) -> None:
        """`coming` is told of the first bytes of what was not begun before."""
        self.namespace = namespace_of(call)
        self._store = store
        self._metadata = metadata
        self._references = references
        self._call = call
        self._coming = coming
        self._ref = first.ref
        self._total = first.total
        self._expected = first.expected
        self._shared_size: int | None = None
        self._began_ns = now_ns()
        self._ingest: Ingest | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._behind = 0  # bytes of it
        if self._expected:
            digests.parse(self._expected)
            self._refuse_existing(self._expected)
            self._shared_size = store.size_anywhere(self._expected)
        if self._shared_size is None:
            self._ingest = store.begin(self.namespace, self._ref, self._total, self._expected)

    async def forget(self) -> None:
        """As `close`, and what was written is gone."""
        with suppress(Exception):
            await self._caught_up()
        if self._ingest is not None:
            self._store.finish(self._ingest)
            self._ingest = None

    async def close(self) -> None:
        with suppress(Exception):  # nobody asks any more
            await self._caught_up()
        if self._ingest is not None:
            self._store.release(self._ingest)
            self._ingest = None

    async def handle(self, request: api.WriteContentRequest) -> api.WriteContentResponse:
        if self._ingest is not None and self._ingest.aborted:
            raise self._ingest.gone()
        self._check(request)
        if request.action == api.STAT:
            return await self._stat()
        await self._write(request)
        if request.action == api.WRITE:
            return api.WriteContentResponse(action=request.action, offset=self._offset())
        return await self._commit(request)

    def _check(self, request: api.WriteContentRequest) -> None:
        if request.ref and request.ref != self._ref:
            raise InvalidArgument("ref must not change in a write stream: invalid argument")
        if request.expected:
            if self._expected and request.expected != self._expected:
                raise InvalidArgument(
                    f"commit digest differs from writer digest: {request.expected} !="
                    f" {self._expected}: invalid argument"
                )
            digests.parse(request.expected)
            self._expected = request.expected
        if request.total > 0:
            if self._total > 0 and request.total != self._total:
                raise InvalidArgument("commit size differs from writer size: invalid argument")
            self._total = request.total

    def _offset(self) -> int:
        if self._ingest is None:
            return self._shared_size or 0
        return self._ingest.offset + self._behind

    async def settled(self) -> None:
        """For others: what was begun is written, or has failed."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])

    async def _caught_up(self) -> None:
        """What was begun is written. Raises what it met."""
        if self._under_way is None:
            return
        try:
            await joined(self._under_way)
        finally:
            self._under_way, self._behind = None, 0

    async def _stat(self) -> api.WriteContentResponse:
        await self._caught_up()
        response = api.WriteContentResponse(action=api.STAT, offset=self._offset())
        response.total = self._total
        if self._ingest is None:
            response.digest = self._expected
            times = (self._began_ns, self._began_ns)
        else:
            await self._catch_up(self._ingest)
            response.file = self._ingest.path
            response.digest = self._ingest.digest()
            times = (self._ingest.started_ns, self._ingest.updated_ns)
        response.started_at.CopyFrom(timestamp(times[0]))
        response.updated_at.CopyFrom(timestamp(times[1]))
        return response

    async def _write(self, request: api.WriteContentRequest) -> None:
        await self._caught_up()
        data = request.data  # each look at it makes a copy
        if self._ingest is None:
            if not data:
                return
            # The client sends the bytes all the same: take them as any others.
            self._shared_size = None
            self._ingest = self._store.begin(self.namespace, self._ref, self._total, self._expected)
        ingest = self._ingest
        grown = 0 if data else request.offset - ingest.offset
        in_file = grown > 0 and ingest.reaches(request.offset)
        if request.offset > 0 and request.offset != ingest.offset and not in_file:
            raise OutOfRange(
                f"write @{request.offset} must occur at current offset {ingest.offset}"
            )
        if request.offset == 0 and ingest.offset > 0:
            await in_thread(ingest.restart)
        if in_file:
            self._begin(in_thread(ingest.absorb, request.offset), grown)
        elif data:
            await self._catch_up(ingest)
            if not ingest.offset and self._coming is not None:
                self._coming(ingest, data)
            if len(data) <= INLINE_BYTES:
                ingest.write(data)
            else:
                self._begin(in_thread(ingest.write, data), len(data))

    def _begin(self, work: Coroutine[Any, Any, None], count: int) -> None:
        self._under_way, self._behind = asyncio.create_task(work), count

    async def _commit(self, request: api.WriteContentRequest) -> api.WriteContentResponse:
        await self._caught_up()
        labels = without_empty(check_labels(request.labels))
        if self._ingest is None:
            digest, size = self._expected, self._shared_size or 0
            with self._metadata.transaction():
                self._store.share(self.namespace, digest, labels)
                hold(self._metadata, self._references, self._call, CONTENT, digest)
        else:
            digest, size = await self._commit_file(self._ingest, labels)
        await self._metadata.durable()
        response = api.WriteContentResponse(action=api.COMMIT, offset=size, digest=digest)
        response.total = size
        response.started_at.CopyFrom(timestamp(now_ns()))
        response.updated_at.CopyFrom(timestamp(now_ns()))
        return response

    async def _commit_file(self, ingest: Ingest, labels: dict[str, str]) -> tuple[str, int]:
        await self._catch_up(ingest)
        digest = ingest.verify(self._total, self._expected)
        try:
            self._refuse_existing(digest)
        except AlreadyExists:
            self._store.finish(ingest)
            self._ingest = None
            raise
        size = ingest.offset
        with self._store.landing(digest) as path:
            self._store.remember(digest, await in_thread(ingest.keep, path))
            try:
                with self._metadata.transaction():
                    self._store.add(ingest, digest, size, labels)
                    hold(self._metadata, self._references, self._call, CONTENT, digest)
            finally:  # AlreadyExists: another ref was quicker with the same bytes
                self._store.finish(ingest)
                self._ingest = None
        return digest, size

    def _refuse_existing(self, digest: str) -> None:
        """A blob that is there is held by the caller's lease all the same."""
        if self._store.has(self.namespace, digest):
            with self._metadata.transaction():
                hold(self._metadata, self._references, self._call, CONTENT, digest)
            raise AlreadyExists(f"content {digest}: already exists")

    async def _catch_up(self, ingest: Ingest) -> None:
        if ingest.needs_catching_up:
            await in_thread(ingest.catch_up)
