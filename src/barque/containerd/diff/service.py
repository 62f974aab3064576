"""gRPC Diff: layers of the content store, applied onto the mounts of a snapshot, or made of two."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from barque.containerd.content.blobs import Blobs, made
from barque.containerd.content.store import ContentStore
from barque.containerd.diff.apply import Applier
from barque.containerd.diff.compare import changes
from barque.containerd.diff.compress import NewLayer
from barque.containerd.diff.decompress import Layer
from barque.containerd.diff.shifted import mapped_ids
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto import diff_pb2 as api
from barque.containerd.proto.types_pb2 import Descriptor, Mount
from barque.containerd.room import check_room
from barque.containerd.snapshots.origins import Origin, Origins
from barque.containerd.snapshots.snapshotter import APART
from barque.containerd.threads import finished
from barque.errors import InvalidArgument, Unavailable, Unsupported
from barque.linux.fs import sync_filesystem
from barque.oci import digest as digests
from barque.oci import tar

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
APPLIED_TYPE = "application/vnd.oci.image.layer.v1.tar"
THREADS = 4
FOLLOWERS = 32  # they wait for what somebody sends, however slowly
# Ours: of a descriptor without digest, the ref that its bytes are being written under.
INGEST = "io.barque.ingest"
FOLLOW = "io.barque.follow"  # the capability
PLACES = "io.barque.places"  # ours, also a capability: a label with what is made to mount on


class Target(NamedTuple):
    """Where a layer goes, without mounting anything."""

    directory: str
    overlay: bool
    lowers: tuple[str, ...]
    xattrs: str = "trusted"
    apart: bool = False  # on what is not known yet


class Diff:
    def __init__(self, content: ContentStore, blobs: Blobs, origins: Origins) -> None:
        self._content, self._blobs, self._origins = content, blobs, origins
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
        pieces = layer.pieces(changes(request.left, request.right, places))
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
            known = digest if self._content.verified(digest, fd) else ""
            work = partial(_apply, Layer(fd, known), target, cancelled, request.sync_fs)
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
            work = partial(_apply, layer, target, cancelled, request.sync_fs)
            applied = await finished(self._followers, work, cancel)
            return growth.digest, applied
        finally:
            os.close(fd)


def target_of(mounts: Sequence[Mount], *, apart: bool = False) -> Target:
    """The directory that these mounts would make writable. Raises Unsupported for others."""
    if len(mounts) != 1:
        raise Unsupported(f"applying onto {len(mounts)} mounts is not supported")
    mount = mounts[0]
    if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
        if "ro" in mount.options:
            raise InvalidArgument(f"mount of {mount.source} is read-only: invalid argument")
        return Target(mount.source, apart, (), apart=apart)
    if mount.type == "overlay":
        options = dict(option.partition("=")[::2] for option in mount.options)
        if "upperdir" not in options:
            raise InvalidArgument("overlay mount has no upperdir: invalid argument")
        if mapped_ids(mount) is not None:
            raise Unsupported("applying onto an overlay with mapped ids is not supported")
        lowers = tuple(options["lowerdir"].split(":"))
        xattrs = "user" if "userxattr" in options else "trusted"
        return Target(options["upperdir"], True, lowers, xattrs)
    raise Unsupported(f"applying onto a mount of type {mount.type} is not supported")


def apply_layer(fd: int, target: Target, cancelled: threading.Event) -> tuple[str, int]:
    """Apply the layer in `fd`; the digest and size of what it is uncompressed. Blocks."""
    return _apply(Layer(fd), target, cancelled)


def _apply(
    layer: Layer, target: Target, cancelled: threading.Event, durable: bool = False
) -> tuple[str, int]:
    with _opened(target) as applier:
        events = tar.Reader()
        for piece in layer.pieces():
            if cancelled.is_set():
                raise Unavailable("applying the layer was cancelled")
            check_room(target.directory, len(piece), "a layer")
            events.feed(piece)
            _take(events, applier)
        events.end()
        _take(events, applier)
        applier.finish()
    if durable:
        _sync(target.directory)
    return layer.digest, layer.size


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)


def _take(events: tar.Reader, applier: Applier) -> None:
    while (event := events.next_event()) is not None:
        if isinstance(event, tar.Data):
            applier.data(event)
        elif isinstance(event, tar.Entry):
            applier.entry(event)


@contextmanager
def _opened(target: Target) -> Iterator[Applier]:
    with ExitStack() as opened:

        def directory(path: str) -> int:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return fd

        root = directory(target.directory)
        lowers = [directory(path) for path in target.lowers]
        applier = Applier(
            root,
            overlay=target.overlay,
            lowers=lowers,
            xattrs=target.xattrs,
            apart=target.apart,
        )
        opened.callback(applier.close)
        yield applier
