"""Blobs made and read by this server itself, rather than by a client's stream."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from barque.containerd.content.store import ContentStore
from barque.containerd.content.writer import Coming, Writer
from barque.containerd.grpc import Call
from barque.containerd.identifiers import namespace_of
from barque.containerd.metadata import Metadata
from barque.containerd.proto import content_pb2 as api
from barque.containerd.references import References
from barque.containerd.threads import finished
from barque.errors import AlreadyExists, DataLoss, ResourceExhausted

Labels = Callable[[], Mapping[str, str]]


class Blob(NamedTuple):
    digest: str
    size: int


class Blobs:
    def __init__(
        self,
        content: ContentStore,
        metadata: Metadata,
        references: References,
        coming: Coming | None = None,
    ) -> None:
        """`coming` is told of what is begun to be written."""
        self._content, self._metadata, self._references = content, metadata, references
        self._coming = coming

    async def write(
        self,
        call: Call,
        ref: str,
        pieces: AsyncIterable[bytes],
        *,
        expected: str = "",
        total: int = 0,
        labels: Labels = dict,
    ) -> Blob:
        """Keep `pieces` as a blob, held by the caller's lease; its digest and size.

        One that is there already gets the labels too. `labels` is asked after the last piece.
        Raises DataLoss when digest or size (0: any) are not the expected ones.
        """
        first = api.WriteContentRequest(ref=ref, expected=expected, total=total)
        try:
            writer = Writer(
                self._content, self._metadata, self._references, call, first, self._coming
            )
        except AlreadyExists:
            return self._labelled(call, expected, labels())
        try:
            return await self._written(call, writer, first, pieces, labels)
        except DataLoss:
            await writer.forget()
            raise
        finally:
            await writer.close()

    async def _written(
        self,
        call: Call,
        writer: Writer,
        first: api.WriteContentRequest,
        pieces: AsyncIterable[bytes],
        labels: Labels,
    ) -> Blob:
        offset = 0
        async for piece in pieces:
            request = api.WriteContentRequest(action=api.WRITE, offset=offset, data=piece)
            offset = (await writer.handle(request)).offset
        told = await writer.handle(api.WriteContentRequest(action=api.STAT))
        commit = api.WriteContentRequest(
            action=api.COMMIT, offset=offset, expected=first.expected, total=first.total
        )
        commit.labels.update(labels())
        try:
            done = await writer.handle(commit)
        except AlreadyExists:  # the same bytes were written before
            return self._labelled(call, told.digest, commit.labels)
        return Blob(done.digest, done.total)

    def _labelled(self, call: Call, digest: str, labels: Mapping[str, str]) -> Blob:
        namespace = namespace_of(call)
        info = self._content.info(namespace, digest)
        if any(info.labels.get(key) != value for key, value in labels.items()):
            with self._metadata.transaction():
                self._content.set_labels(namespace, digest, {**info.labels, **labels})
        return Blob(digest, info.size)

    def read(self, namespace: str, digest: str, limit: int) -> bytes:
        """A document. Raises NotFound, and ResourceExhausted for one above `limit` bytes."""
        size = self._content.info(namespace, digest).size
        if size > limit:
            raise ResourceExhausted(f"content {digest} has {size} bytes, more than {limit}")
        fd = self._content.open(namespace, digest)
        with open(fd, "rb") as file:
            return file.read(limit)

    def size(self, namespace: str, digest: str) -> int:
        """Raises NotFound."""
        return self._content.info(namespace, digest).size

    def open(self, namespace: str, digest: str) -> int:
        """A descriptor to read it from; the caller closes it. Raises NotFound."""
        return self._content.open(namespace, digest)

    def label(self, namespace: str, digest: str, labels: Mapping[str, str]) -> None:
        """Add labels to a blob that is there."""
        self._labelled(Call(namespace), digest, labels)


async def made(pieces: Iterator[bytes], workers: Executor | None = None) -> AsyncIterator[bytes]:
    """`pieces`, each made on `workers`."""
    while (piece := await finished(workers, partial(next, pieces, None))) is not None:
        if piece:
            yield piece


async def from_file(fd: int, size: int, piece_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
    """`size` bytes of a file from its place on."""
    while size > 0 and (data := await finished(None, partial(os.read, fd, min(size, piece_bytes)))):
        size -= len(data)
        yield data
