"""An image's layers as snapshots, one for each chain, as containerd's unpacker makes them.

A snapshot gets its name only when what was unpacked is what the image's config says.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from barque.containerd.content.store import UNCOMPRESSED_LABEL
from barque.containerd.diff.service import Diff
from barque.containerd.grpc import Call
from barque.containerd.proto import diff_pb2, snapshots_pb2
from barque.containerd.snapshots.service import Snapshots
from barque.containerd.transfer.graph import Graph, is_foreign
from barque.containerd.transfer.progress import Teller, message_of
from barque.errors import AlreadyExists, BarqueError, DataLoss, InvalidArgument, Unsupported
from barque.oci import digest as digests
from barque.oci import image
from barque.oci.image import Descriptor, Manifest

CHAIN_LABEL = "containerd.io/snapshot.ref"
SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot."


class Unpacker:
    def __init__(self, snapshots: Snapshots, diff: Diff) -> None:
        self._snapshots, self._diff = snapshots, diff

    async def image(
        self, call: Call, graph: Graph, manifest: Manifest, snapshotter: str, teller: Teller
    ) -> None:
        """All layers, base first; those that are there cost a question each."""
        config = image.parse_config(graph.read(manifest.config))
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"invalid image: {len(manifest.layers)} layers, {len(config.diff_ids)} diff ids"
            )
        parent = ""
        for number, layer in enumerate(manifest.layers, start=1):
            if is_foreign(layer):
                raise Unsupported(f"layer {layer.digest} is foreign: not distributed with it")
            chain = digests.chain_id(list(config.diff_ids[:number]))
            if not await self._has(call, snapshotter, chain):
                await teller.blob("extracting", layer, 0, manifest.config.digest)
                diff_id = config.diff_ids[number - 1]
                await self._layer(call, snapshotter, layer, parent, chain, diff_id)
                graph.label(layer.digest, {UNCOMPRESSED_LABEL: diff_id})
            await teller.blob("extracted", layer, layer.size, manifest.config.digest)
            parent = chain
        if parent:
            graph.label(manifest.config.digest, {SNAPSHOT_LABEL + snapshotter: parent})

    async def _has(self, call: Call, snapshotter: str, chain: str) -> bool:
        """Whether the chain is unpacked; the caller's lease holds it then, by preparing on it."""
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=snapshotter, key=f"look-{secrets.token_hex(8)}", parent=chain
        )
        with suppress(BarqueError):
            await self._snapshots.prepare(call, request)
            await self._remove(call, snapshotter, request.key)
            return True
        return False

    async def _layer(
        self, call: Call, snapshotter: str, layer: Descriptor, parent: str, chain: str, diff_id: str
    ) -> None:
        key = f"extract-{secrets.token_hex(8)} {chain}"
        prepare = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=snapshotter, key=key, parent=parent, labels={CHAIN_LABEL: chain}
        )
        mounts = (await self._snapshots.prepare(call, prepare)).mounts
        try:
            apply = diff_pb2.ApplyRequest(diff=message_of(layer), mounts=mounts)
            found = (await self._diff.apply(call, apply)).applied.digest
            if found != diff_id:
                raise DataLoss(
                    f"layer {layer.digest} unpacks to {found}, the image's config says {diff_id}"
                )
            commit = snapshots_pb2.CommitSnapshotRequest(
                snapshotter=snapshotter, name=chain, key=key, labels={CHAIN_LABEL: chain}
            )
            await self._snapshots.commit(call, commit)
        except AlreadyExists:  # somebody else was quicker
            await self._remove(call, snapshotter, key)
        except BaseException:
            await self._remove(call, snapshotter, key)
            raise

    async def _remove(self, call: Call, snapshotter: str, key: str) -> None:
        """What failed is what is told; the lease ends the snapshot if we cannot."""
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
        with suppress(BarqueError):
            await self._snapshots.remove(call, request)
