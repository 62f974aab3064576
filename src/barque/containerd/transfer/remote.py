"""Pull and push: an image from a registry into content, and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from barque.containerd.content.blobs import Blobs, from_file
from barque.containerd.grpc import Call
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto.transfer_types_pb2 import (
    CREDENTIALS,
    HEADER,
    REFRESH,
    AuthRequest,
    AuthResponse,
    OCIRegistry,
)
from barque.containerd.streaming import ByteStream, decoded
from barque.containerd.transfer.graph import (
    DOCUMENT_BYTES_MAX,
    Graph,
    check_bounds,
    is_document,
    is_foreign,
    labels_of,
    wanted_children,
)
from barque.containerd.transfer.progress import Teller
from barque.errors import ResourceExhausted, Unsupported
from barque.oci import image
from barque.oci import reference as references
from barque.oci.image import Descriptor, Platform
from barque.oci.reference import Reference
from barque.registry import ANONYMOUS, Credentials, Policy, Repository, Transport, open_repository

AT_ONCE = 3
SOURCE_LABEL = "containerd.io/distribution.source."
USER_AGENT = "User-Agent"


class Remote:
    """The repository of one reference. `close` it."""

    def __init__(
        self, transport: Transport, reference: Reference, credentials: Credentials
    ) -> None:
        self.reference = reference
        self._transport = transport
        self.repository: Repository = open_repository(
            transport,
            reference.domain,
            reference.path,
            reference.familiar_name,
            credentials,
        )

    @property
    def tag_or_digest(self) -> str:
        return self.reference.digest or self.reference.tag

    @property
    def labels(self) -> dict[str, str]:
        """Where a blob came from, for those who would push it there again."""
        return {SOURCE_LABEL + self.reference.domain: self.reference.path}

    def close(self) -> None:
        self._transport.close()


async def opened(registry: OCIRegistry, asking: ByteStream | None) -> Remote:
    """The repository that a client names; `asking` is the stream to ask it for credentials by.

    Raises InvalidArgument, Unsupported for what we do not do for clients.
    """
    resolver = registry.resolver
    for name, given in (
        ("host_dir", resolver.host_dir),
        ("http_debug", resolver.http_debug),
        ("logs_stream", resolver.logs_stream),
        ("headers", set(resolver.headers) - {USER_AGENT}),
    ):
        if given:
            raise Unsupported(f"registry option {name} is not supported")
    if resolver.default_scheme not in ("", "http", "https"):
        raise Unsupported(f"registry scheme {resolver.default_scheme[:20]!r} is not supported")
    reference = references.parse(registry.reference).with_default_tag()
    credentials = ANONYMOUS if asking is None else await _asked(reference, asking)
    plain = frozenset({reference.domain} if resolver.default_scheme == "http" else ())
    agent = resolver.headers.get(USER_AGENT, "barque")
    return Remote(Transport(Policy(insecure=plain), agent), reference, credentials)


async def _asked(reference: Reference, asking: ByteStream) -> Credentials:
    await asking.send(AuthRequest(host=reference.domain, reference=reference.full))
    answer = await asking.receive()
    if answer is None:
        return ANONYMOUS
    given = decoded(AuthResponse, answer)
    if given.authType == CREDENTIALS:
        return Credentials(username=given.username, password=given.secret)
    if given.authType == REFRESH:
        return Credentials(identity_token=given.secret)
    if given.authType == HEADER:
        scheme, _, token = given.secret.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unsupported("an authorization header that is no bearer token is not supported")
        return Credentials(registry_token=token)
    return ANONYMOUS


class Pull:
    """One image, its blobs at most `AT_ONCE` at a time; each is verified before it is kept."""

    def __init__(
        self,
        blobs: Blobs,
        call: Call,
        remote: Remote,
        platforms: Sequence[Platform],
        limit: int,
        teller: Teller,
    ) -> None:
        self._blobs, self._call, self._remote = blobs, call, remote
        self._platforms, self._limit, self._teller = platforms, limit, teller
        self._graph = Graph(blobs, namespace_of(call))
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._seen: set[str] = set()

    async def run(self) -> Descriptor:
        """The image's descriptor, when all of it is there."""
        found = await self._remote.repository.manifest(self._remote.tag_or_digest)
        document = image.parse(found.raw, found.media_type)
        root = Descriptor(document.media_type, found.digest, len(found.raw))
        try:
            await self._document(root, found.raw, "", 0)
        except BaseExceptionGroup as failures:
            raise first_of(failures) from None
        return root

    async def _fetch(self, descriptor: Descriptor, parent: str, depth: int) -> None:
        if descriptor.digest in self._seen or is_foreign(descriptor):
            return
        self._seen.add(descriptor.digest)
        check_bounds(len(self._seen), depth)
        if not is_document(descriptor):
            async with self._turn:
                await self._keep(descriptor, self._pieces(descriptor), parent)
            return
        if descriptor.size > DOCUMENT_BYTES_MAX:
            raise ResourceExhausted(f"manifest {descriptor.digest} has {descriptor.size} bytes")
        found = await self._remote.repository.manifest(descriptor.digest)
        await self._document(descriptor, found.raw, parent, depth)

    async def _document(self, descriptor: Descriptor, raw: bytes, parent: str, depth: int) -> None:
        await self._keep(descriptor, _once(raw), parent)
        document = image.parse(raw, descriptor.media_type)
        wanted = wanted_children(document, self._platforms, self._limit if depth == 0 else 0)
        async with asyncio.TaskGroup() as fetching:
            for child in wanted:
                fetching.create_task(self._fetch(child, descriptor.digest, depth + 1))
        self._graph.label(descriptor.digest, labels_of(document, wanted))

    async def _keep(
        self, descriptor: Descriptor, pieces: AsyncIterator[bytes], parent: str
    ) -> None:
        await self._blobs.write(
            self._call,
            f"transfer-{descriptor.digest}",
            pieces,
            expected=descriptor.digest,
            total=descriptor.size,
            labels=lambda: self._remote.labels,
        )
        await self._teller.blob("complete", descriptor, descriptor.size, parent)

    async def _pieces(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        await self._teller.blob("downloading", descriptor, 0)
        done = 0
        async for chunk in self._remote.repository.blob(descriptor.digest, descriptor.size):
            yield chunk
            done += len(chunk)
        await self._teller.blob("downloading", descriptor, done)


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a client is told of several that failed at once."""
    first = failures.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def push(
    blobs: Blobs,
    call: Call,
    target: Descriptor,
    remote: Remote,
    platforms: Sequence[Platform],
    teller: Teller,
) -> None:
    """Everything of an image that is there and wanted, children first."""
    namespace = namespace_of(call)
    graph = Graph(blobs, namespace)
    repository = remote.repository
    for descriptor, parent in graph.walk(target, platforms):
        if is_document(descriptor):
            raw = graph.read(descriptor)
            name = remote.tag_or_digest if descriptor.digest == target.digest else ""
            await repository.put_manifest(
                name or descriptor.digest, image.parse(raw, descriptor.media_type).media_type, raw
            )
        elif is_foreign(descriptor):
            continue
        elif await repository.has_blob(descriptor.digest):
            await teller.blob("already exists", descriptor, descriptor.size, parent)
            continue
        else:
            await _upload(blobs, namespace, descriptor, repository)
        await teller.blob("complete", descriptor, descriptor.size, parent)


async def _upload(
    blobs: Blobs, namespace: str, descriptor: Descriptor, repository: Repository
) -> None:
    fd = blobs.open(namespace, descriptor.digest)

    async def chunks(offset: int) -> AsyncGenerator[bytes, None]:
        os.lseek(fd, offset, os.SEEK_SET)
        async for chunk in from_file(fd, descriptor.size - offset):
            yield chunk

    try:
        await repository.upload_blob(descriptor.digest, descriptor.size, chunks)
    finally:
        os.close(fd)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
