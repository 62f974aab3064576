"""gRPC Leases: what is under way is held until its maker says it is done."""

from __future__ import annotations

import secrets
from typing import Any

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.collector import Collector
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_labels, namespace_of
from barque.containerd.messages import lookup, timestamp, without_empty
from barque.containerd.metadata import Metadata, decode_labels, encode_labels, now_ns
from barque.containerd.proto import leases_pb2 as api
from barque.containerd.references import CONTENT, INGEST, SNAPSHOTS, Node, References
from barque.errors import AlreadyExists, InvalidArgument, NotFound, Unsupported
from barque.oci import digest as digests


class Leases:
    def __init__(self, metadata: Metadata, references: References, collector: Collector) -> None:
        self._metadata = metadata
        self._references = references
        self._collector = collector

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Leases"],
            {
                "Create": AtOnce(self.create),
                "Delete": self.delete,
                "List": AtOnce(self.list_all),
                "AddResource": AtOnce(self.add_resource),
                "DeleteResource": AtOnce(self.delete_resource),
                "ListResources": AtOnce(self.list_resources),
            },
        )

    async def create(self, call: Call, request: api.CreateRequest) -> api.CreateResponse:
        namespace = namespace_of(call)
        id, labels = request.id or secrets.token_hex(8), without_empty(check_labels(request.labels))
        now = now_ns()
        with self._metadata.transaction():
            self._metadata.ensure_namespace(namespace)
            if self._found(namespace, id):
                raise AlreadyExists(f'lease "{id}": already exists')
            self._metadata.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?)", namespace, id, encode_labels(labels), now
            )
            self._references.set(Node(namespace, "lease", id), labels)
        self._metadata.durable_soon()
        return api.CreateResponse(lease=api.Lease(id=id, created_at=timestamp(now), labels=labels))

    async def delete(self, call: Call, request: api.DeleteRequest) -> Empty:
        namespace = namespace_of(call)
        with self._metadata.transaction():
            self._require(namespace, request.id)
            delete_lease(self._metadata, self._references, namespace, request.id)
        if request.sync:
            await self._metadata.durable()
            await self._collector.run()
        else:
            self._collector.soon()
        return Empty()

    async def list_all(self, call: Call, request: api.ListRequest) -> api.ListResponse:
        accepts = filters.any_of(filters.parse_all(request.filters))
        rows = self._metadata.execute(
            "SELECT id, labels, created FROM leases WHERE namespace = ? ORDER BY id",
            namespace_of(call),
        )
        leases = map(_message, rows)
        return api.ListResponse(
            leases=[one for one in leases if accepts(lookup({"id": one.id}, one.labels))]
        )

    async def add_resource(self, call: Call, request: api.AddResourceRequest) -> Empty:
        namespace = namespace_of(call)
        _check_resource(request.resource)
        with self._metadata.transaction():
            self._require(namespace, request.id)
            source = Node(namespace, "lease", request.id)
            self._references.add(source, request.resource.type, request.resource.id)
        return Empty()

    async def delete_resource(self, call: Call, request: api.DeleteResourceRequest) -> Empty:
        namespace = namespace_of(call)
        _check_resource(request.resource)
        with self._metadata.transaction():
            self._require(namespace, request.id)
            source = Node(namespace, "lease", request.id)
            self._references.remove(source, request.resource.type, request.resource.id)
        self._collector.soon()
        return Empty()

    async def list_resources(
        self, call: Call, request: api.ListResourcesRequest
    ) -> api.ListResourcesResponse:
        namespace = namespace_of(call)
        self._require(namespace, request.id)
        held = self._references.of(Node(namespace, "lease", request.id))
        return api.ListResourcesResponse(
            resources=[api.Resource(id=key, type=kind) for kind, key in held]
        )

    def _found(self, namespace: str, id: str) -> bool:
        return lease_exists(self._metadata, namespace, id)

    def _require(self, namespace: str, id: str) -> None:
        if not self._found(namespace, id):
            raise NotFound(f'lease "{id}": not found')


def lease_exists(metadata: Metadata, namespace: str, id: str) -> bool:
    found = metadata.one("SELECT 1 FROM leases WHERE namespace = ? AND id = ?", namespace, id)
    return found is not None


def delete_lease(metadata: Metadata, references: References, namespace: str, id: str) -> None:
    """Within the caller's transaction."""
    metadata.execute("DELETE FROM leases WHERE namespace = ? AND id = ?", namespace, id)
    references.drop(Node(namespace, "lease", id))


def hold(metadata: Metadata, references: References, call: Call, kind: str, key: str) -> None:
    """What a call that names a lease makes is held by it. Within the caller's transaction.

    Raises NotFound when there is no such lease.
    """
    if not call.lease:
        return
    if not lease_exists(metadata, call.namespace, call.lease):
        raise NotFound(f'lease "{call.lease}": not found')
    references.add(Node(call.namespace, "lease", call.lease), kind, key)


def _check_resource(resource: api.Resource) -> None:
    kind, *rest = resource.type.split("/")
    if kind not in (CONTENT, INGEST, SNAPSHOTS.rstrip("/")):
        raise Unsupported(f'resource type "{resource.type}": not implemented')
    named = kind not in (CONTENT, INGEST)
    if len(rest) != named or not all(rest) or (named and not resource.id):
        raise InvalidArgument(f'invalid resource type "{resource.type}": invalid argument')
    if kind == CONTENT:
        digests.parse(resource.id)


def _message(row: Any) -> api.Lease:
    id, labels, created = row
    return api.Lease(id=id, created_at=timestamp(created), labels=decode_labels(labels))
