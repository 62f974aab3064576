"""The diff service: layers applied onto snapshots, and made from two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from barque.containerd.client import descriptors, mounts
from barque.containerd.client.channel import Channel
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.mounts import Mount
from barque.containerd.proto import diff_pb2 as api

SERVICE = "containerd.services.diff.v1.Diff"
INGEST = "io.barque.ingest"
APART = "io.barque.apart"
FOLLOW = "io.barque.follow"  # the capability to apply what is being written
PLACES = "io.barque.places"  # the capability to leave places to mount on out of a new layer


class Diff:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def apply(self, layer: Descriptor, onto: Sequence[Mount]) -> Descriptor:
        """Unpack a layer of the content store; what it is uncompressed (its digest: the diff id).

        Raises NotFound for the content, InvalidArgument or DataLoss for a bad layer.
        """
        request = api.ApplyRequest(
            diff=descriptors.to_message(layer), mounts=[mounts.to_message(mount) for mount in onto]
        )
        answer = await self._channel.unary(SERVICE, "Apply", request, api.ApplyResponse)
        return descriptors.from_message(answer.applied)

    async def apply_written(
        self, media_type: str, ref: str, onto: Sequence[Mount], *, apart: bool = False
    ) -> Descriptor:
        """As `apply`, of what another stream writes under `ref` right now, while it comes.

        For a containerd with the capability `FOLLOW`. Raises Unavailable when the writer gives up.
        `apart`: the snapshot gets its parent at its commit, for a snapshotter with `APART`.
        """
        annotations = {INGEST: ref, APART: "1"} if apart else {INGEST: ref}
        return await self.apply(Descriptor(media_type, "", 0, annotations), onto)

    async def make(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str,
        ref: str = "",
        labels: Mapping[str, str] | None = None,
        places: Sequence[str] = (),
    ) -> Descriptor:
        """Store what makes `upper` from `lower` as a layer of the content store.

        `places` are names without a leading slash, for a containerd with the capability `PLACES`:
        what is empty there, and not in `lower`, is left out.
        """
        request = api.DiffRequest(
            left=[mounts.to_message(mount) for mount in lower],
            right=[mounts.to_message(mount) for mount in upper],
            media_type=media_type,
            ref=ref,
            labels={**(labels or {}), **({PLACES: ",".join(places)} if places else {})},
        )
        answer = await self._channel.unary(SERVICE, "Diff", request, api.DiffResponse)
        return descriptors.from_message(answer.diff)
