"""The leases service: what is held back from collection while something is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf.empty_pb2 import Empty

from barque.containerd.client.channel import Channel
from barque.containerd.proto import leases_pb2 as api

SERVICE = "containerd.services.leases.v1.Leases"
EXPIRE_LABEL = "containerd.io/gc.expire"
CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """What a lease holds: `kind` "content" and a digest, or "snapshots/<snapshotter>" and a key."""

    kind: str
    key: str


class Leases:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def create(
        self,
        id: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        lifetime_s: float | None = None,
    ) -> Lease:
        """A new lease, named by containerd if not by `id`; it ends by itself after `lifetime_s`."""
        all_labels = dict(labels or {})
        if lifetime_s is not None:
            end = datetime.now(UTC) + timedelta(seconds=lifetime_s)
            all_labels[EXPIRE_LABEL] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        request = api.CreateRequest(id=id, labels=all_labels)
        answer = await self._channel.unary(SERVICE, "Create", request, api.CreateResponse)
        return _lease(answer.lease)

    async def delete(self, id: str, *, sync: bool = False) -> None:
        """With `sync`, return when what only it held is gone. Raises NotFound."""
        request = api.DeleteRequest(id=id, sync=sync)
        await self._channel.unary(SERVICE, "Delete", request, Empty)

    async def list(self, filters: Sequence[str] = ()) -> Sequence[Lease]:
        request = api.ListRequest(filters=filters)
        answer = await self._channel.unary(SERVICE, "List", request, api.ListResponse)
        return [_lease(lease) for lease in answer.leases]

    async def add(self, id: str, resource: Resource) -> None:
        request = api.AddResourceRequest(id=id, resource=_resource(resource))
        await self._channel.unary(SERVICE, "AddResource", request, Empty)

    async def remove(self, id: str, resource: Resource) -> None:
        request = api.DeleteResourceRequest(id=id, resource=_resource(resource))
        await self._channel.unary(SERVICE, "DeleteResource", request, Empty)

    async def resources(self, id: str) -> Sequence[Resource]:
        request = api.ListResourcesRequest(id=id)
        answer = await self._channel.unary(
            SERVICE, "ListResources", request, api.ListResourcesResponse
        )
        return [Resource(resource.type, resource.id) for resource in answer.resources]


def _resource(resource: Resource) -> api.Resource:
    return api.Resource(type=resource.kind, id=resource.key)


def _lease(message: api.Lease) -> Lease:
    return Lease(message.id, dict(message.labels), message.created_at.ToNanoseconds())
