"""gRPC Namespaces: who shares this containerd without seeing each other."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from barque.containerd.events import Events
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_identifier, check_labels
from barque.containerd.messages import check_mask, update_map, without_empty
from barque.containerd.metadata import Metadata, decode_labels, encode_labels
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.proto import namespaces_pb2 as api
from barque.errors import AlreadyExists, Conflict, NotFound

# What a namespace may still hold, in containerd's words.
CONTENTS = {
    "images": "SELECT 1 FROM images WHERE namespace = ? LIMIT 1",
    "blobs": "SELECT 1 FROM content WHERE namespace = ? LIMIT 1",
    "containers": "SELECT 1 FROM containers WHERE namespace = ? LIMIT 1",
    "sandboxes": "SELECT 1 FROM sandboxes WHERE namespace = ? LIMIT 1",
    "snapshots": "SELECT 1 FROM snapshots WHERE namespace = ? LIMIT 1",
}


class Namespaces:
    def __init__(self, metadata: Metadata, events: Events) -> None:
        self._metadata = metadata
        self._events = events

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Namespaces"],
            {
                "Get": AtOnce(self.get),
                "List": AtOnce(self.list_all),
                "Create": self.create,
                "Update": self.update,
                "Delete": self.delete,
            },
        )

    async def get(self, call: Call, request: api.GetNamespaceRequest) -> api.GetNamespaceResponse:
        """One that nobody made has no labels: Go's clients ask for theirs before they make it."""
        try:
            labels = self._labels(request.name)
        except NotFound:
            labels = {}
        return api.GetNamespaceResponse(namespace=api.Namespace(name=request.name, labels=labels))

    async def list_all(
        self, call: Call, request: api.ListNamespacesRequest
    ) -> api.ListNamespacesResponse:
        rows = self._metadata.execute("SELECT name, labels FROM namespaces ORDER BY name")
        return api.ListNamespacesResponse(
            namespaces=[api.Namespace(name=n, labels=decode_labels(text)) for n, text in rows]
        )

    async def create(
        self, call: Call, request: api.CreateNamespaceRequest
    ) -> api.CreateNamespaceResponse:
        name = check_identifier(request.namespace.name)
        labels = without_empty(check_labels(request.namespace.labels))
        with self._metadata.transaction():
            if self._metadata.one("SELECT 1 FROM namespaces WHERE name = ?", name):
                raise AlreadyExists(f'namespace "{name}": already exists')
            self._metadata.execute(
                "INSERT INTO namespaces VALUES (?, ?)", name, encode_labels(labels)
            )
        self._events.publish(
            name, "/namespaces/create", happened.NamespaceCreate(name=name, labels=labels)
        )
        await self._metadata.durable()
        return api.CreateNamespaceResponse(namespace=api.Namespace(name=name, labels=labels))

    async def update(
        self, call: Call, request: api.UpdateNamespaceRequest
    ) -> api.UpdateNamespaceResponse:
        """Of one that nobody made, too: its first label makes it."""
        name, mask = request.namespace.name, request.update_mask
        check_mask(mask, ("labels",), f'namespace "{name}"')
        with self._metadata.transaction():
            self._metadata.ensure_namespace(check_identifier(name))
            labels = update_map(self._labels(name), request.namespace.labels, mask)
            check_labels(labels)
            self._metadata.execute(
                "UPDATE namespaces SET labels = ? WHERE name = ?", encode_labels(labels), name
            )
        self._events.publish(
            name, "/namespaces/update", happened.NamespaceUpdate(name=name, labels=labels)
        )
        await self._metadata.durable()
        return api.UpdateNamespaceResponse(namespace=api.Namespace(name=name, labels=labels))

    async def delete(self, call: Call, request: api.DeleteNamespaceRequest) -> Empty:
        name = request.name
        with self._metadata.transaction():
            self._labels(name)
            held = [what for what, query in CONTENTS.items() if self._metadata.one(query, name)]
            if held:
                raise Conflict(
                    f'namespace "{name}" must be empty, but it still has {", ".join(held)}:'
                    " failed precondition"
                )
            for table in ("leases", "ingests", "refs"):
                self._metadata.execute(f"DELETE FROM {table} WHERE namespace = ?", name)
            self._metadata.execute("DELETE FROM namespaces WHERE name = ?", name)
        self._events.publish(name, "/namespaces/delete", happened.NamespaceDelete(name=name))
        await self._metadata.durable()
        return Empty()

    def _labels(self, name: str) -> dict[str, str]:
        row = self._metadata.one("SELECT labels FROM namespaces WHERE name = ?", name)
        if row is None:
            raise NotFound(f'namespace "{name}": not found')
        return decode_labels(row[0])
