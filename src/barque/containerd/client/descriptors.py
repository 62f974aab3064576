"""What points at content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from barque.containerd.proto.types_pb2 import Descriptor as DescriptorMessage


@dataclass(frozen=True, slots=True)
class Descriptor:
    """image-spec, descriptor.md: a blob, by what it is."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


def from_message(message: DescriptorMessage) -> Descriptor:
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def to_message(descriptor: Descriptor) -> DescriptorMessage:
    return DescriptorMessage(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=descriptor.annotations,
    )
