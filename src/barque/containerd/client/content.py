"""The content service: blobs by digest, read and written in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from barque.containerd.client.channel import Channel, Duplex
from barque.containerd.client.ingest_file import IngestFile
from barque.containerd.proto import content_pb2 as api
from barque.errors import AlreadyExists, Conflict, DataLoss, ResourceExhausted, Unavailable

SERVICE = "containerd.services.content.v1.Content"
CHUNK_BYTES = 1 << 20
MESSAGE_BYTES = 64 << 10  # up to here a message costs less than the file
UNANSWERED_MAX = 3  # writes on their way: the store has something to do while we make the next
SMALL_BYTES_MAX = 16 << 20

_Stream = Duplex[api.WriteContentRequest, api.WriteContentResponse]


@dataclass(frozen=True, slots=True)
class Info:
    digest: str
    size: int
    labels: Mapping[str, str]
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class Status:
    """A blob under way."""

    ref: str
    offset: int
    total: int
    expected: str
    started_ns: int
    updated_ns: int


class Writer:
    """A ref being written, by nobody else. `offset` says how many bytes are there already.

    Where containerd names the file, and it is on this machine, the bytes are put there, and the
    stream only says how many.
    """

    def __init__(self, stream: _Stream, ref: str, total: int, expected: str) -> None:
        self._stream = stream
        self._ref = ref
        self._total = total
        self._expected = expected
        self._path = ""
        self._file: IngestFile | None = None
        self._told = 0  # bytes that containerd knows of
        self.offset = 0
        self._unanswered = 0
        self.ended = False  # a commit is our last word: a Go server resets a stream left open

    async def begin(self) -> None:
        """Take the ref."""
        first = api.WriteContentRequest(
            action=api.STAT, ref=self._ref, total=self._total, expected=self._expected
        )
        answer = await self._ask(first)
        self.offset = self._told = answer.offset
        self._path = answer.file

    async def write(self, *parts: bytes) -> None:
        """Append. Returns when the store has it under way; its failure may come with the next."""
        if self._told == self.offset and sum(map(len, parts)) <= MESSAGE_BYTES:
            await self._send_data(b"".join(parts))
        elif (file := self._opened()) is not None:
            self.offset += await file.write(parts, self.offset)
            await self._tell()
        else:
            data = b"".join(parts)
            for at in range(0, len(data), CHUNK_BYTES):
                await self._send_data(data[at : at + CHUNK_BYTES])

    def _opened(self) -> IngestFile | None:
        if self._file is None and self._path:
            self._file = IngestFile.at(self._path, self._expected or self._ref)
            self._path = ""
        return self._file

    async def _send_data(self, data: bytes) -> None:
        await self._send(api.WriteContentRequest(action=api.WRITE, offset=self.offset, data=data))
        self.offset += len(data)
        self._told = self.offset

    async def _tell(self) -> None:
        """What is in the file is part of the blob."""
        if self.offset > self._told:
            await self._send(api.WriteContentRequest(action=api.WRITE, offset=self.offset))
            self._told = self.offset

    async def _send(self, request: api.WriteContentRequest) -> None:
        await self._stream.send(request)
        self._unanswered += 1
        if self._unanswered > UNANSWERED_MAX:
            await self._answer()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def _answer(self) -> api.WriteContentResponse:
        """The next one: they come in the order of what was asked."""
        answer = await self._stream.receive()
        if answer is None:
            raise Unavailable(f"content ref {self._ref}: containerd ended the write")
        self._unanswered -= 1
        return answer

    async def digest(self) -> str:
        """Of what was written so far."""
        await self._tell()
        return (await self._ask(api.WriteContentRequest(action=api.STAT))).digest

    async def restart(self) -> None:
        """Forget what is there and begin at 0."""
        if self.offset:
            request = api.WriteContentRequest(action=api.WRITE, offset=0)
            self.offset = self._told = (await self._ask(request)).offset

    async def commit(
        self, *, digest: str = "", size: int = 0, labels: Mapping[str, str] | None = None
    ) -> str:
        """Verify, make durable, name it; its digest. `digest` and `size` add to what was expected.

        Raises DataLoss when the bytes are not what was expected, AlreadyExists when the blob came
        into being meanwhile (which is as good).
        """
        await self._tell()
        request = api.WriteContentRequest(
            action=api.COMMIT,
            offset=self.offset,
            total=size or self._total or self.offset,
            expected=digest or self._expected,
            labels=labels,
        )
        try:
            self.ended = True
            return (await self._ask(request, end=True)).digest
        except AlreadyExists:
            raise
        except Conflict as error:  # a failed precondition: size or digest is another
            raise DataLoss(str(error)) from error

    async def _ask(
        self, request: api.WriteContentRequest, *, end: bool = False
    ) -> api.WriteContentResponse:
        await self._stream.send(request, end=end)
        self._unanswered += 1
        while self._unanswered > 1:
            await self._answer()
        return await self._answer()


class Content:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def info(self, digest: str) -> Info:
        """Raises NotFound."""
        request = api.InfoRequest(digest=digest)
        return _info((await self._channel.unary(SERVICE, "Info", request, api.InfoResponse)).info)

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> Info:
        """Set these labels and leave all others; an empty value removes one. Raises NotFound."""
        request = api.UpdateRequest(
            info=api.Info(digest=digest, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        answer = await self._channel.unary(SERVICE, "Update", request, api.UpdateResponse)
        return _info(answer.info)

    async def list(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        request = api.ListContentRequest(filters=filters)
        async for page in self._channel.stream(SERVICE, "List", request, api.ListContentResponse):
            for info in page.info:
                yield _info(info)

    async def delete(self, digest: str) -> None:
        request = api.DeleteContentRequest(digest=digest)
        await self._channel.unary(SERVICE, "Delete", request, Empty)

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset`, `size` of them (0: to the end), in pieces."""
        request = api.ReadContentRequest(digest=digest, offset=offset, size=size)
        async for piece in self._channel.stream(SERVICE, "Read", request, api.ReadContentResponse):
            yield piece.data

    async def read_all(self, digest: str, limit: int = SMALL_BYTES_MAX) -> bytes:
        """A small blob whole. Raises ResourceExhausted when it has more than `limit` bytes."""
        pieces = []
        size = 0
        async for piece in self.read(digest):
            size += len(piece)
            if size > limit:
                raise ResourceExhausted(f"content {digest} is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    @asynccontextmanager
    async def writer(self, ref: str, *, size: int = 0, digest: str = "") -> AsyncIterator[Writer]:
        """Begin or take up the ref. Leaving without `commit` keeps what was written, to resume.

        Raises AlreadyExists when a blob of that digest is there, Unavailable while another writes
        the same ref.
        """
        async with self._channel.duplex(
            SERVICE, "Write", api.WriteContentRequest, api.WriteContentResponse
        ) as stream:
            writer = Writer(stream, ref, size, digest)
            try:
                await writer.begin()
                yield writer
                if not writer.ended:
                    await writer._tell()
                    await stream.end()
            finally:
                writer.close()
            async for _ in stream:  # until the server has let go of the ref
                pass

    async def put(
        self, ref: str, content: bytes, digest: str, labels: Mapping[str, str] | None = None
    ) -> None:
        """Store a small blob; one that is there is done, with these labels added."""
        try:
            async with self.writer(ref, size=len(content), digest=digest) as writer:
                if writer.offset != len(content):
                    await writer.restart()
                    await writer.write(content)
                await writer.commit(labels=labels)
        except DataLoss:  # what another left under the ref: the next try begins anew
            await self.abort(ref)
            raise
        except AlreadyExists:
            if labels:
                await self.set_labels(digest, labels)

    async def status(self, ref: str) -> Status:
        request = api.StatusRequest(ref=ref)
        answer = await self._channel.unary(SERVICE, "Status", request, api.StatusResponse)
        return _status(answer.status)

    async def statuses(self, filters: Sequence[str] = ()) -> Sequence[Status]:
        request = api.ListStatusesRequest(filters=filters)
        answer = await self._channel.unary(
            SERVICE, "ListStatuses", request, api.ListStatusesResponse
        )
        return [_status(status) for status in answer.statuses]

    async def abort(self, ref: str) -> None:
        """Forget what was written under `ref`."""
        await self._channel.unary(SERVICE, "Abort", api.AbortRequest(ref=ref), Empty)


def _info(message: api.Info) -> Info:
    return Info(
        message.digest,
        message.size,
        dict(message.labels),
        message.created_at.ToNanoseconds(),
        message.updated_at.ToNanoseconds(),
    )


def _status(message: api.Status) -> Status:
    return Status(
        message.ref,
        message.offset,
        message.total,
        message.expected,
        message.started_at.ToNanoseconds(),
        message.updated_at.ToNanoseconds(),
    )
