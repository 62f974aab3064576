"""gRPC Diff: layers of the content store, applied onto the mounts of a snapshot, or made of two."""

from __future__ import annotations

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from barque.containerd.content.blobs import Blobs, made
from barque.containerd.content.store import UNCOMPRESSED_LABEL, ContentStore
from barque.containerd.diff.ahead import Ahead
from barque.containerd.diff.applying import Target, apply, target_of
from barque.containerd.diff.compare import changes
from barque.containerd.diff.compress import NewLayer
from barque.containerd.diff.decompress import Layer
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto import diff_pb2 as api
from barque.containerd.proto.types_pb2 import Descriptor
from barque.containerd.snapshots.origins import Origin, Origins
from barque.containerd.snapshots.snapshotter import APART
from barque.containerd.threads import finished
from barque.oci import digest as digests

APPLIED_TYPE = "application/vnd.oci.image.layer.v1.tar"
THREADS = 4
FOLLOWERS = 32  # they wait for what somebody sends, however slowly
# Ours: of a descriptor without digest, the ref that its bytes are being written under.
INGEST = "io.barque.ingest"
FOLLOW = "io.barque.follow"  # the capability
PLACES = "io.barque.places"  # ours, also a capability: a label with what is made to mount on


class Diff:
    def __init__(self, content: ContentStore, blobs: Blobs, origins: Origins, ahead: Ahead) -> None:
        self._content, self._blobs, self._origins, self._ahead = content, blobs, origins, ahead
        self._workers = ThreadPoolExecutor(THREADS, "diff")
        self._followers = ThreadPoolExecutor(FOLLOWERS, "follow")

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Diff"], {"Apply": self.apply, "Diff": self.diff}
        )

    async def diff(self, call: Call, request: api.DiffRequest) -> api.DiffResponse:
        """What makes `right` from `left` becomes a layer, held by the caller's lease."""
        layer = NewLayer(request.media_type)
        labels = dict(request.labels)
        places = [os.fsencode(place) for place in labels.pop(PLACES, "").split(",")]
        epoch = request.source_date_epoch
        latest_s = epoch.seconds if request.HasField("source_date_epoch") else None
        pieces = layer.pieces(changes(request.left, request.right, places, latest_s))
        ref = request.ref or f"diff-{secrets.token_hex(8)}"
        await self._blobs.write(
            call,
            ref,
            made(pieces, self._workers),
            labels=lambda: {**labels, UNCOMPRESSED_LABEL: layer.diff_id},
        )
        return api.DiffResponse(
            diff=Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
        )

    async def apply(self, call: Call, request: api.ApplyRequest) -> api.ApplyResponse:
        target = target_of(request.mounts, apart=APART in request.diff.annotations)
        first = self._origins.begun(target.directory)
        if ref := request.diff.annotations.get(INGEST, ""):
            blob, (digest, size) = await self._apply_as_it_comes(call, request, target, ref)
        else:
            blob, (digest, size) = await self._apply_blob(call, request, target)
        if first:
            self._origins.filled(target.directory, Origin(blob, digest))
        return api.ApplyResponse(
            applied=Descriptor(media_type=APPLIED_TYPE, digest=digest, size=size)
        )

    async def _apply_blob(
        self, call: Call, request: api.ApplyRequest, target: Target
    ) -> tuple[str, tuple[str, int]]:
        digest = request.diff.digest
        digests.parse(digest)
        fd = self._content.open(namespace_of(call), digest)
        cancelled = threading.Event()
        try:
            found = await self._ahead.take(digest, target, durable=request.sync_fs)
            if found is not None:
                return digest, found
            known = digest if self._content.verified(digest, fd) else ""
            work = partial(apply, Layer(fd, known), target, cancelled, request.sync_fs)
            # A caller who gives up will remove the snapshot: be out of it before.
            return digest, await finished(self._workers, work, cancelled.set)
        finally:
            os.close(fd)

    async def _apply_as_it_comes(
        self, call: Call, request: api.ApplyRequest, target: Target, ref: str
    ) -> tuple[str, tuple[str, int]]:
        fd, growth = self._content.follow(namespace_of(call), ref)
        cancelled = threading.Event()

        def cancel() -> None:
            cancelled.set()
            growth.wake()

        try:
            layer = Layer(fd, "", growth, cancelled)
            work = partial(apply, layer, target, cancelled, request.sync_fs)
            applied = await finished(self._followers, work, cancel)
            return growth.digest, applied
        finally:
            os.close(fd)
