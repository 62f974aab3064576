"""gRPC Transfer: one call moves a whole image, its progress told on a stream.

    from \\ to          image store                 registry     archive stream
    registry           pull (and unpack)
    image store        another name                push         export
    archive stream     import (and unpack)                      the bytes as they are

Source: containerd, docs/transfer.md and core/transfer/local. What is under way is held by the
caller's lease, or by one of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from barque.containerd.content.blobs import Blobs
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import namespace_of
from barque.containerd.images import Images
from barque.containerd.leases import Leases
from barque.containerd.proto import leases_pb2, transfer_pb2
from barque.containerd.proto import transfer_types_pb2 as types
from barque.containerd.references import EXPIRE_LABEL
from barque.containerd.streaming import ByteStream, Streams, decoded
from barque.containerd.transfer import names
from barque.containerd.transfer.archive_in import Archive
from barque.containerd.transfer.archive_out import archived
from barque.containerd.transfer.graph import (
    Graph,
    is_document,
    labels_of,
    platforms_of,
    wanted_children,
)
from barque.containerd.transfer.progress import Teller, descriptor_of
from barque.containerd.transfer.unpack import Unpacker
from barque.errors import InvalidArgument, NotFound, Unsupported
from barque.oci.image import Descriptor, Platform, host_platform

LEASE_HOURS = 24
DEFAULT_SNAPSHOTTER = "overlayfs"
KINDS: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        types.ImageStore,
        types.OCIRegistry,
        types.ImageImportStream,
        types.ImageExportStream,
    )
}


class Transfer:
    def __init__(
        self,
        streams: Streams,
        blobs: Blobs,
        images: Images,
        leases: Leases,
        unpacker: Unpacker,
        machine: str,
        layers: Blobs,
    ) -> None:
        """`machine`: as uname(2) has it. `layers` keeps what is to be unpacked."""
        self._streams, self._blobs, self._layers = streams, blobs, layers
        self._images, self._leases, self._unpacker = images, leases, unpacker
        self._platform = host_platform(machine)

    def service(self) -> Service:
        described = transfer_pb2.DESCRIPTOR.services_by_name["Transfer"]
        return Service(described, {"Transfer": self.transfer})

    async def transfer(self, call: Call, request: transfer_pb2.TransferRequest) -> Empty:
        namespace = namespace_of(call)
        async with AsyncExitStack() as stack:
            teller = Teller(self._stream(namespace, request.options.progress_stream))
            stack.callback(teller.close)
            source, target = _decoded(request.source), _decoded(request.destination)
            held = await stack.enter_async_context(self._held(call))
            match source, target:
                case types.OCIRegistry(), types.ImageStore():
                    await self._pull(held, source, target, teller)
                case types.ImageStore(), types.OCIRegistry():
                    await self._push(held, source, target, teller)
                case types.ImageStore(), types.ImageStore():
                    await self._tag(held, source, target)
                case types.ImageStore(), types.ImageExportStream():
                    await self._export(held, source, target, teller)
                case types.ImageImportStream(), types.ImageStore():
                    await self._import(held, source, target, teller)
                case types.ImageImportStream(), types.ImageExportStream():
                    await self._echo(held, source, target)
                case _:
                    raise Unsupported(
                        f"unable to transfer from {request.source.type_url} to "
                        f"{request.destination.type_url}: not implemented"
                    )
        return Empty()

    @asynccontextmanager
    async def _held(self, call: Call) -> AsyncIterator[Call]:
        """The call with a lease: what is not named at its end is garbage."""
        if call.lease:
            yield call
            return
        end = datetime.now(UTC) + timedelta(hours=LEASE_HOURS)
        labels = {EXPIRE_LABEL: end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        lease = (await self._leases.create(call, leases_pb2.CreateRequest(labels=labels))).lease
        try:
            yield replace(call, lease=lease.id)
        finally:
            await self._leases.delete(call, leases_pb2.DeleteRequest(id=lease.id))

    def _stream(self, namespace: str, id: str) -> ByteStream | None:
        return self._streams.take(namespace, id) if id else None

    def _required(self, namespace: str, id: str) -> ByteStream:
        if not id:
            raise InvalidArgument("the archive has no stream")
        return self._streams.take(namespace, id)

    async def _pull(
        self, call: Call, source: types.OCIRegistry, store: types.ImageStore, teller: Teller
    ) -> None:
        from barque.containerd.transfer import remote  # TLS is loaded when it is needed

        asking = self._stream(call.namespace, source.resolver.auth_stream)
        await teller.event(f"Resolving from {source.reference}")
        far = await remote.opened(source, asking)
        try:
            platforms = platforms_of(store.platforms)
            if store.all_metadata:
                raise Unsupported("fetching the metadata of every platform is not supported")
            pull = remote.Pull(
                self._kept(store), call, far, platforms, store.manifest_limit, teller
            )
            await teller.event("fetching image content", far.reference.full)
            target = await pull.run()
        finally:
            far.close()
            if asking is not None:
                asking.close()
        await self._unpack(call, store, target, teller)
        found = names.names_of(store, target) or [far.reference.full]
        await self._store(call, store, found, target, teller)
        await teller.event(f"Completed pull from {source.reference}")

    async def _push(
        self, call: Call, store: types.ImageStore, registry: types.OCIRegistry, teller: Teller
    ) -> None:
        (found, *more) = await names.looked_up(self._images, call, store)
        if more:
            raise InvalidArgument("a push is of one image")
        from barque.containerd.transfer import remote

        asking = self._stream(call.namespace, registry.resolver.auth_stream)
        far = await remote.opened(registry, asking)
        try:
            platforms = platforms_of(store.platforms)
            await teller.event(f"Pushing to {registry.reference}")
            target = descriptor_of(found.target)
            await remote.push(self._blobs, call, target, far, platforms, teller)
            await teller.event(f"Completed push to {registry.reference}")
        finally:
            far.close()
            if asking is not None:
                asking.close()

    async def _tag(self, call: Call, source: types.ImageStore, store: types.ImageStore) -> None:
        (found, *more) = await names.looked_up(self._images, call, source)
        target = descriptor_of(found.target)
        wanted = names.names_of(store, target)
        if more or not wanted:
            raise InvalidArgument("a name is given to one image, and one name at least")
        labels = {**found.labels, **store.labels}
        for name in wanted:
            await names.store_image(self._images, call, name, target, labels)

    async def _export(
        self, call: Call, store: types.ImageStore, archive: types.ImageExportStream, teller: Teller
    ) -> None:
        found = await names.looked_up(self._images, call, store)
        images = [(image.name, descriptor_of(image.target)) for image in found]
        platforms: Sequence[Platform] = platforms_of(archive.platforms or store.platforms)
        if not platforms and not archive.all_platforms:
            platforms = (self._platform,)
        out = self._required(call.namespace, archive.stream)
        await teller.event("Exporting")
        try:
            pieces = archived(
                self._blobs,
                call.namespace,
                images,
                platforms,
                for_docker=not archive.skip_compatibility_manifest,
                foreign=not archive.skip_non_distributable,
            )
            async with aclosing(pieces):  # type: ignore[type-var]
                async for piece in pieces:
                    await out.write(piece)
        finally:
            out.close()
        await teller.event("Completed export")

    async def _import(
        self, call: Call, archive: types.ImageImportStream, store: types.ImageStore, teller: Teller
    ) -> None:
        if archive.force_compress:
            raise Unsupported("compressing the layers of an import is not supported")
        stream = self._required(call.namespace, archive.stream)
        await teller.event("Importing")
        try:
            index, images = await Archive(self._kept(store), call).read(stream.read())
        finally:
            stream.close()
        graph = Graph(self._blobs, call.namespace)
        platforms = platforms_of(store.platforms)
        self._label(graph, index, platforms)
        stored = names.names_of(store, index)
        await self._store(call, store, stored, index, teller)
        count = len(stored)
        for target in images:
            await self._unpack(call, store, target, teller)
            found = names.names_in_archive(store, target)
            count += len(found)
            await self._store(call, store, found, target, teller)
        if not count:
            raise NotFound("no image name found: not found")
        await teller.event("Completed import")

    def _kept(self, store: types.ImageStore) -> Blobs:
        return self._layers if store.unpacks else self._blobs

    def _label(self, graph: Graph, root: Descriptor, platforms: Sequence[Platform]) -> None:
        """Every document holds what it names and what came with it."""
        nodes = list(graph.walk(root, platforms))
        there = {node.descriptor.digest for node in nodes}
        for node, _ in nodes:
            if is_document(node):
                document = graph.document(node)
                wanted = wanted_children(document, platforms)
                here = [child for child in wanted if child.digest in there]
                graph.label(node.digest, labels_of(document, here))

    async def _echo(
        self, call: Call, source: types.ImageImportStream, target: types.ImageExportStream
    ) -> None:
        into = self._required(call.namespace, target.stream)
        try:
            stream = self._required(call.namespace, source.stream)
            try:
                async for piece in stream.read():
                    await into.write(piece)
            finally:
                stream.close()
        finally:
            into.close()

    async def _unpack(
        self, call: Call, store: types.ImageStore, target: Descriptor, teller: Teller
    ) -> None:
        graph = Graph(self._blobs, call.namespace)
        for wanted in store.unpacks:
            platforms = platforms_of([wanted.platform]) if wanted.platform.os else (self._platform,)
            for manifest in graph.manifests(target, platforms):
                await self._unpacker.image(
                    call, graph, manifest, wanted.snapshotter or DEFAULT_SNAPSHOTTER, teller
                )
                break

    async def _store(
        self,
        call: Call,
        store: types.ImageStore,
        wanted: Sequence[str],
        target: Descriptor,
        teller: Teller,
    ) -> None:
        for name in wanted:
            await names.store_image(self._images, call, name, target, store.labels)
            await teller.event("saved", name)


def _decoded(message: AnyMessage) -> Message:
    """Raises Unsupported for an end that we do not have."""
    name = message.type_url.rpartition("/")[2]
    if name not in KINDS:
        raise Unsupported(f"transfer of {name[:100]!r} is not supported")
    return decoded(KINDS[name], message)
