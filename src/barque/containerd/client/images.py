"""The images service: names for descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from barque.containerd.client import descriptors
from barque.containerd.client.channel import Channel
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.proto import images_pb2 as api
from barque.errors import AlreadyExists

SERVICE = "containerd.services.images.v1.Images"


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0


class Images:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, name: str) -> Image:
        """Raises NotFound."""
        request = api.GetImageRequest(name=name)
        answer = await self._channel.unary(SERVICE, "Get", request, api.GetImageResponse)
        return _image(answer.image)

    async def list(self, filters: Sequence[str] = ()) -> Sequence[Image]:
        """All images, or those that any filter accepts; `name==`, `target.digest==` are quick."""
        request = api.ListImagesRequest(filters=filters)
        answer = await self._channel.unary(SERVICE, "List", request, api.ListImagesResponse)
        return [_image(image) for image in answer.images]

    async def create(self, image: Image) -> Image:
        """Raises AlreadyExists."""
        request = api.CreateImageRequest(image=_message(image))
        answer = await self._channel.unary(SERVICE, "Create", request, api.CreateImageResponse)
        return _image(answer.image)

    async def update(self, image: Image, fields: Sequence[str] = ()) -> Image:
        """Replace the named fields ("target", "labels", "labels.KEY"), or all. Raises NotFound."""
        request = api.UpdateImageRequest(image=_message(image), update_mask=FieldMask(paths=fields))
        answer = await self._channel.unary(SERVICE, "Update", request, api.UpdateImageResponse)
        return _image(answer.image)

    async def put(self, image: Image) -> Image:
        """Create, or point an existing name at the new target, with these labels."""
        try:
            return await self.create(image)
        except AlreadyExists:
            return await self.update(image)

    async def delete(self, name: str, *, sync: bool = False) -> None:
        """Remove the name; with `sync`, return when what only it held is gone. Raises NotFound."""
        request = api.DeleteImageRequest(name=name, sync=sync)
        await self._channel.unary(SERVICE, "Delete", request, Empty)


def _message(image: Image) -> api.Image:
    return api.Image(
        name=image.name, labels=image.labels, target=descriptors.to_message(image.target)
    )


def _image(message: api.Image) -> Image:
    return Image(
        message.name,
        descriptors.from_message(message.target),
        dict(message.labels),
        message.created_at.ToNanoseconds(),
        message.updated_at.ToNanoseconds(),
    )
