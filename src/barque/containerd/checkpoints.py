"""Checkpoints of tasks: criu's images as content, and content as images for a restore.

Source: containerd, services/tasks: a checkpoint is two blobs, the tar of the directory of images
and the container's spec (an encoded Any). What a task is restored from lies in a directory of its
id until it runs: its shim reads the images when it is started.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.content.blobs import Blobs, made
from barque.containerd.content.store import ContentStore
from barque.containerd.diff.applying import Target, apply_layer
from barque.containerd.diff.compare import changes
from barque.containerd.grpc import Call
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto.types_pb2 import Descriptor, Mount
from barque.containerd.threads import finished
from barque.errors import InvalidArgument

IMAGES_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
SPEC_TYPE = "application/vnd.containerd.container.checkpoint.config.v1+proto"
DUMP = ".dump~"  # no identifier has a "~"


class Checkpoints:
    """`directory` is ours: <namespace>/<id>~<random> is for restores, .dump~<random> for dumps."""

    def __init__(self, directory: Path, content: ContentStore, blobs: Blobs) -> None:
        self._directory = directory
        self._content = content
        self._blobs = blobs
        self._waiting: set[tuple[str, str]] = set()  # tasks that are to be restored

    async def save(
        self, call: Call, dump: Callable[[str], Awaitable[None]], spec: AnyMessage
    ) -> list[Descriptor]:
        """Have `dump` write images into a directory, and keep them and `spec` as content."""
        parent = self._directory / namespace_of(call)
        images = parent / f"{DUMP}{secrets.token_hex(8)}"
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        images.mkdir(mode=0o700)
        try:
            await dump(str(images))
            source = Mount(type="bind", source=str(images), options=["rbind", "ro"])
            return [
                await self._kept(call, IMAGES_TYPE, made(changes((), [source]))),
                await self._kept(call, SPEC_TYPE, _once(spec.SerializeToString())),
            ]
        finally:
            await finished(None, partial(_remove, images))

    async def _kept(self, call: Call, kind: str, pieces: AsyncIterator[bytes]) -> Descriptor:
        blob = await self._blobs.write(call, f"checkpoint-{secrets.token_hex(8)}", pieces)
        return Descriptor(media_type=kind, digest=blob.digest, size=blob.size)

    async def unpack(self, call: Call, id: str, checkpoint: Descriptor) -> str:
        """The directory of the images in a checkpoint, for the task `id` that is made of it.

        Raises InvalidArgument for another kind of blob, and what a broken one is worth.
        """
        if checkpoint.media_type != IMAGES_TYPE:
            raise InvalidArgument(f'unsupported checkpoint type "{checkpoint.media_type}"')
        namespace = namespace_of(call)
        fd = self._content.open(namespace, checkpoint.digest)
        images = self._directory / namespace / f"{id}~{secrets.token_hex(8)}"
        stopped = threading.Event()
        try:
            await finished(None, partial(_unpacked, fd, images, stopped), stopped.set)
        except BaseException:
            await finished(None, partial(_remove, images))
            raise
        finally:
            os.close(fd)
        self._waiting.add((namespace, id))
        return str(images)

    async def forget(self, namespace: str, id: str) -> None:
        """The task of these images runs, or never will. None there is fine."""
        if (namespace, id) not in self._waiting:
            return
        self._waiting.discard((namespace, id))
        for images in (self._directory / namespace).glob(f"{id}~*"):
            await finished(None, partial(_remove, images))

    def sweep(self, has_task: Callable[[str, str], bool]) -> int:
        """Remove what a crash left: dumps, and images without a task. At start only."""
        removed = 0
        for images in self._directory.glob("*/*~*"):
            key = images.parent.name, images.name.partition("~")[0]
            if has_task(*key):
                self._waiting.add(key)
            else:
                _remove(images)
                removed += 1
        return removed


def _unpacked(fd: int, images: Path, stopped: threading.Event) -> None:
    images.mkdir(mode=0o700, parents=True)
    apply_layer(fd, Target(str(images), False, ()), stopped)


def _remove(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    await asyncio.sleep(0)
    yield data
