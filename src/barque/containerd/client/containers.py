"""The containers service: the records that tasks are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from barque.containerd.client.channel import Channel
from barque.containerd.proto import containers_pb2 as api
from barque.containerd.proto.runc_options_pb2 import Options

SERVICE = "containerd.services.containers.v1.Containers"
SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
DEFAULT_RUNTIME = "io.containerd.barque.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`spec` is the OCI runtime specification as JSON text; `runtime` names a shim.

    `runtime_binary` is the OCI runtime that the shim calls ("": the shim's own).
    """

    id: str
    spec: bytes = b""
    image: str = ""
    runtime: str = DEFAULT_RUNTIME
    runtime_binary: str = ""
    snapshotter: str = ""
    snapshot_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0


class Containers:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, id: str) -> Container:
        """Raises NotFound."""
        request = api.GetContainerRequest(id=id)
        answer = await self._channel.unary(SERVICE, "Get", request, api.GetContainerResponse)
        return _container(answer.container)

    async def list(self, filters: Sequence[str] = ()) -> Sequence[Container]:
        request = api.ListContainersRequest(filters=filters)
        answer = await self._channel.unary(SERVICE, "List", request, api.ListContainersResponse)
        return [_container(container) for container in answer.containers]

    async def create(self, container: Container) -> None:
        """Raises AlreadyExists."""
        request = api.CreateContainerRequest(container=_message(container))
        await self._channel.unary(SERVICE, "Create", request, api.CreateContainerResponse)

    async def update(self, container: Container, fields: Sequence[str]) -> None:
        """Replace the named fields: "spec", "image", "labels", "snapshotkey". Raises NotFound."""
        request = api.UpdateContainerRequest(
            container=_message(container), update_mask=FieldMask(paths=fields)
        )
        await self._channel.unary(SERVICE, "Update", request, api.UpdateContainerResponse)

    async def delete(self, id: str) -> None:
        """Raises NotFound. The task must be gone before."""
        await self._channel.unary(SERVICE, "Delete", api.DeleteContainerRequest(id=id), Empty)


def _message(container: Container) -> api.Container:
    message = api.Container(
        id=container.id,
        image=container.image,
        labels=container.labels,
        runtime=api.Container.Runtime(name=container.runtime),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        spec=AnyMessage(type_url=SPEC_TYPE, value=container.spec),
    )
    if container.runtime_binary:
        options = Options(binary_name=container.runtime_binary)
        # containerd writes type URLs without a host
        message.runtime.options.type_url = options.DESCRIPTOR.full_name
        message.runtime.options.value = options.SerializeToString()
    return message


def _container(message: api.Container) -> Container:
    binary = ""
    if message.runtime.options.type_url == Options.DESCRIPTOR.full_name:
        binary = Options.FromString(message.runtime.options.value).binary_name
    return Container(
        id=message.id,
        spec=message.spec.value,
        image=message.image,
        runtime=message.runtime.name,
        runtime_binary=binary,
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        labels=dict(message.labels),
        created_ns=message.created_at.ToNanoseconds(),
        updated_ns=message.updated_at.ToNanoseconds(),
    )
