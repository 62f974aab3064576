"""What a transfer tells while it goes on, to a client that gave it a stream for that."""

from __future__ import annotations

from barque.containerd.proto.transfer_types_pb2 import Progress
from barque.containerd.proto.types_pb2 import Descriptor as DescriptorMessage
from barque.containerd.streaming import ByteStream
from barque.errors import BarqueError
from barque.oci.image import Descriptor


class Teller:
    """`stream` is None for a client that does not listen; one that goes away stops nothing."""

    def __init__(self, stream: ByteStream | None) -> None:
        self._stream = stream

    async def event(self, text: str, name: str = "") -> None:
        await self._send(Progress(event=text, name=name))

    async def blob(self, text: str, descriptor: Descriptor, done: int, parent: str = "") -> None:
        """How far a blob is; `parent` is the digest of the document that names it."""
        await self._send(
            Progress(
                event=text,
                name=_name(descriptor),
                parents=[parent] if parent else [],
                progress=done,
                total=descriptor.size,
                desc=message_of(descriptor),
            )
        )

    async def _send(self, progress: Progress) -> None:
        if self._stream is None:
            return
        try:
            await self._stream.send(progress)
        except BarqueError:
            self._stream = None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _name(descriptor: Descriptor) -> str:
    kind = descriptor.media_type
    for word in ("index", "manifest", "config", "layer"):
        if word in kind or (word == "index" and "manifest.list" in kind):
            return f"{word}-{descriptor.digest}"
    return f"layer-{descriptor.digest}" if "rootfs" in kind else descriptor.digest


def message_of(descriptor: Descriptor) -> DescriptorMessage:
    return DescriptorMessage(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=descriptor.annotations,
    )


def descriptor_of(message: DescriptorMessage) -> Descriptor:
    return Descriptor(
        message.media_type, message.digest, message.size, annotations=dict(message.annotations)
    )
