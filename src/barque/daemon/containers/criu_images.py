"""criu's images as content of a containerd, and as files. Source: containerd, services/tasks: a
checkpoint is a tar of them, of a media type of its own, beside the container's spec."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import suppress

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.oci.tar_pack import Content, pack_bare
from barque.oci.tar_unpack import Unpacker, below

IMAGES_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"


async def fetch(containerd: Containerd, saved: Sequence[Descriptor], directory: str) -> None:
    """Unpack the images of a checkpoint into an empty directory."""
    images = next((blob for blob in saved if blob.media_type == IMAGES_TYPE), None)
    if images is None:
        raise errors.DataLoss("invalid checkpoint")
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = Unpacker(below(opened))
    try:
        async for piece in containerd.content.read(images.digest):
            await asyncio.to_thread(unpacker.feed, piece)
        await asyncio.to_thread(unpacker.end)
    finally:
        unpacker.close()
        os.close(opened)


async def store(containerd: Containerd, directory: str) -> Descriptor:
    """The images in a directory as content, which the caller's lease holds."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pieces = _pieces(opened)
    hasher = hashlib.sha256()
    size = 0
    try:
        with suppress(errors.AlreadyExists):  # raised by its commit, and again by its end
            async with containerd.content.writer(f"checkpoint-{secrets.token_hex(8)}") as writer:
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    hasher.update(piece)
                    size += len(piece)
                    await writer.write(piece)
                await writer.commit()
        return Descriptor(IMAGES_TYPE, f"sha256:{hasher.hexdigest()}", size)
    finally:
        pieces.close()
        os.close(opened)


def _pieces(directory: int) -> Generator[bytes, None, None]:
    for piece in pack_bare(directory):
        if isinstance(piece, Content):
            yield from piece.chunks()
        else:
            yield piece
