"""gRPC Mounts: mounts that need more than a system call, made by the server.

Source: containerd, api/services/mounts/v1/mounts.proto and docs/mounts.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.messages import lookup
from barque.containerd.mounts.activations import Activations
from barque.containerd.proto import mounts_pb2 as api
from barque.containerd.proto.types_pb2 import ActivationInfo
from barque.errors import InvalidArgument, Unsupported

COLLECTED = "containerd.io/gc.bref."  # what an activation would go with
NAME_BYTES_MAX = 4096


class Mounts:
    def __init__(self, activations: Activations) -> None:
        self._activations = activations

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Mounts"],
            {
                "Activate": self.activate,
                "Deactivate": self.deactivate,
                "Info": self.info,
                "Update": self.update,
                "List": self.list_all,
            },
        )

    async def activate(self, call: Call, request: api.ActivateRequest) -> api.ActivateResponse:
        namespace = namespace_of(call)
        if not 0 < len(request.name.encode()) <= NAME_BYTES_MAX:
            raise InvalidArgument(f"an activation's name has 1 to {NAME_BYTES_MAX} bytes")
        labels = check_labels(request.labels)
        for key in labels:
            if key.startswith(COLLECTED):
                raise Unsupported(f"label {key}: activations are not collected")
        info = await self._activations.activate(
            namespace,
            ActivationInfo(name=request.name, labels=labels),
            request.mounts,
            temporary=request.temporary,
        )
        return api.ActivateResponse(info=info)

    async def deactivate(self, call: Call, request: api.DeactivateRequest) -> Empty:
        await self._activations.deactivate(namespace_of(call), request.name)
        return Empty()

    async def info(self, call: Call, request: api.InfoRequest) -> api.InfoResponse:
        found = await self._activations.find(namespace_of(call), request.name)
        return api.InfoResponse(info=found)

    async def update(self, call: Call, request: api.UpdateRequest) -> api.UpdateResponse:
        await self._activations.find(namespace_of(call), request.info.name)
        raise Unsupported(f'updating the mount "{request.info.name}" is not supported')

    async def list_all(
        self, call: Call, request: api.ListRequest
    ) -> AsyncIterator[api.ListMessage]:
        """Filter fields: name, labels."""
        accepts = filters.any_of(filters.parse_all(request.filters))
        for one in await self._activations.all(namespace_of(call)):
            if accepts(lookup({"name": one.name}, one.labels)):
                yield api.ListMessage(info=one)
