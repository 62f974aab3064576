"""gRPC Images: names for descriptors. What a name means is found in the content store.

With any number of images, getting, making and removing one costs the same; a List that asks by
`name==` or `target.digest==` is a point query.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.collector import Collector
from barque.containerd.events import Events
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.image_encoding import EncodedList
from barque.containerd.messages import (
    check_mask,
    lookup,
    timestamp,
    to_ns,
    update_map,
    without_empty,
)
from barque.containerd.metadata import (
    Metadata,
    decode_labels,
    encode_labels,
    now_ns,
    placeholders,
)
from barque.containerd.proto import images_pb2 as api
from barque.containerd.proto.types_pb2 import Descriptor
from barque.containerd.references import CONTENT, Node, References
from barque.errors import AlreadyExists, InvalidArgument, NotFound
from barque.oci import digest as digests

COLUMNS = "name, media_type, digest, size, annotations, labels, created, updated"
MANY_BYTES, MOST_BYTES = 1 << 16, 8 << 20  # of a list that is kept for who asks again
KEPT_S = 30.0
# Which filters are answered without reading all; the planner would rather save the sorting.
POINT_QUERIES = (
    ("name", "", ("name",)),
    ("digest", "INDEXED BY images_by_digest", ("target", "digest")),
)


class Images:
    def __init__(
        self, metadata: Metadata, references: References, events: Events, collector: Collector
    ) -> None:
        self._metadata = metadata
        self._references = references
        self._events = events
        self._collector = collector
        self._listed: tuple[tuple[str, int], EncodedList] | None = None

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Images"],
            {
                "Get": AtOnce(self.get),
                "List": AtOnce(self.list_all),
                "Create": self.create,
                "Update": self.update,
                "Delete": self.delete,
            },
        )

    async def get(self, call: Call, request: api.GetImageRequest) -> api.GetImageResponse:
        return api.GetImageResponse(image=self._image(namespace_of(call), request.name))

    async def list_all(
        self, call: Call, request: api.ListImagesRequest
    ) -> api.ListImagesResponse | EncodedList:
        wanted = filters.parse_all(request.filters)
        if not wanted:
            return self._whole_list(namespace_of(call))
        accepts = filters.any_of(wanted)
        images = map(_message, self._rows(namespace_of(call), wanted))
        return api.ListImagesResponse(images=[image for image in images if accepts(_view(image))])

    def _whole_list(self, namespace: str) -> EncodedList:
        """All images: who lists many of them does so again, and mostly nothing has changed."""
        key = namespace, self._metadata.changes
        if self._listed is not None and self._listed[0] == key:
            return self._listed[1]
        made = EncodedList(self._rows(namespace, ()))
        if MANY_BYTES < len(made) < MOST_BYTES:
            self._listed = key, made
            asyncio.get_running_loop().call_later(KEPT_S, self._forget_list, made)
        return made

    def _forget_list(self, made: EncodedList) -> None:
        if self._listed is not None and self._listed[1] is made:
            self._listed = None

    def _rows(self, namespace: str, wanted: tuple[filters.Filter, ...]) -> Iterator[Any]:
        for column, index, path in POINT_QUERIES:
            values = filters.values_of(wanted, path)
            if values is not None:
                return self._metadata.execute(
                    f"SELECT {COLUMNS} FROM images {index} WHERE namespace = ?"
                    f" AND {column} IN ({placeholders(values)}) ORDER BY name",
                    namespace,
                    *values,
                )
        return self._metadata.execute(
            f"SELECT {COLUMNS} FROM images WHERE namespace = ? ORDER BY name", namespace
        )

    async def create(self, call: Call, request: api.CreateImageRequest) -> api.CreateImageResponse:
        namespace, image = namespace_of(call), request.image
        if not image.name:
            raise InvalidArgument("image name must not be empty: invalid argument")
        _check_target(image.target)
        labels = without_empty(check_labels(image.labels))
        now = to_ns(request.source_date_epoch) or now_ns()
        with self._metadata.transaction():
            self._metadata.ensure_namespace(namespace)
            if self._metadata.one(
                "SELECT 1 FROM images WHERE namespace = ? AND name = ?", namespace, image.name
            ):
                raise AlreadyExists(f'image "{image.name}": already exists')
            self._write(namespace, image.name, image.target, labels, now, now)
        event = api.ImageCreate(name=image.name, labels=labels)
        self._events.publish(namespace, "/images/create", event)
        await self._metadata.durable()
        return api.CreateImageResponse(image=self._image(namespace, image.name))

    async def update(self, call: Call, request: api.UpdateImageRequest) -> api.UpdateImageResponse:
        namespace, wanted, mask = namespace_of(call), request.image, request.update_mask
        if not wanted.name:
            raise InvalidArgument("image name must not be empty: invalid argument")
        check_mask(mask, ("labels", "target", "annotations"), f'image "{wanted.name}"')
        with self._metadata.transaction():
            old = self._image(namespace, wanted.name)
            target = Descriptor()
            whole = not mask.paths or "target" in mask.paths
            target.CopyFrom(wanted.target if whole else old.target)
            if any(path.split(".")[0] == "annotations" for path in mask.paths):
                annotations = update_map(
                    old.target.annotations, wanted.target.annotations, mask, "annotations"
                )
                target.annotations.clear()
                target.annotations.update(annotations)
            _check_target(target)
            labels = check_labels(update_map(old.labels, wanted.labels, mask))
            now = to_ns(request.source_date_epoch) or now_ns()
            self._write(namespace, wanted.name, target, labels, to_ns(old.created_at), now)
        event = api.ImageUpdate(name=wanted.name, labels=labels)
        self._events.publish(namespace, "/images/update", event)
        self._collector.soon()
        await self._metadata.durable()
        return api.UpdateImageResponse(image=self._image(namespace, wanted.name))

    async def delete(self, call: Call, request: api.DeleteImageRequest) -> Empty:
        namespace, name = namespace_of(call), request.name
        with self._metadata.transaction():
            image = self._image(namespace, name)
            if request.HasField("target") and request.target.digest != image.target.digest:
                raise NotFound(f'image "{name}" has another target: not found')
            self._metadata.execute(
                "DELETE FROM images WHERE namespace = ? AND name = ?", namespace, name
            )
            self._references.drop(Node(namespace, "image", name))
        self._events.publish(namespace, "/images/delete", api.ImageDelete(name=name))
        await self._metadata.durable()
        if request.sync:
            await self._collector.run()
        else:
            self._collector.soon()
        return Empty()

    def _image(self, namespace: str, name: str) -> api.Image:
        row = self._metadata.one(
            f"SELECT {COLUMNS} FROM images WHERE namespace = ? AND name = ?", namespace, name
        )
        if row is None:
            raise NotFound(f'image "{name}": not found')
        return _message(row)

    def _write(
        self,
        namespace: str,
        name: str,
        target: Descriptor,
        labels: dict[str, str],
        created: int,
        updated: int,
    ) -> None:
        self._metadata.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            namespace,
            name,
            target.media_type,
            target.digest,
            target.size,
            json.dumps(dict(target.annotations)),
            encode_labels(labels),
            created,
            updated,
        )
        source = Node(namespace, "image", name)
        self._references.set(source, labels, [(CONTENT, target.digest)])


def _message(row: Any) -> api.Image:
    name, media_type, digest, size, annotations, labels, created, updated = row
    return api.Image(
        name=name,
        labels=decode_labels(labels),
        target=Descriptor(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations=decode_labels(annotations),
        ),
        created_at=timestamp(created),
        updated_at=timestamp(updated),
    )


def _view(image: api.Image) -> filters.Lookup:
    target = image.target
    fields = {
        "name": image.name,
        "target.digest": target.digest,
        "target.mediatype": target.media_type,
    }
    return lookup(fields, image.labels)


def _check_target(target: Descriptor) -> None:
    digests.parse(target.digest)
    if target.size <= 0:
        raise InvalidArgument("Target.Size must be greater than zero: invalid argument")
    if not target.media_type:
        raise InvalidArgument("Target.MediaType must be set: invalid argument")
