"""gRPC Containers: records of what tasks are made from. Nothing here runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from google.protobuf.empty_pb2 import Empty

from barque.containerd import filters
from barque.containerd.collector import Collector
from barque.containerd.events import Events
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_identifier, check_labels, namespace_of
from barque.containerd.messages import check_mask, lookup, timestamp, update_map, without_empty
from barque.containerd.metadata import Metadata, now_ns, placeholders
from barque.containerd.proto import containers_pb2 as api
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.references import SNAPSHOTS, Node, References
from barque.errors import AlreadyExists, InvalidArgument, NotFound

MUTABLE = ("labels", "spec", "extensions", "image", "snapshotkey", "snapshot_key")


class Containers:
    def __init__(
        self, metadata: Metadata, references: References, events: Events, collector: Collector
    ) -> None:
        self._metadata = metadata
        self._references = references
        self._events = events
        self._collector = collector

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Containers"],
            {
                "Get": AtOnce(self.get),
                "List": AtOnce(self.list_all),
                "ListStream": self.list_stream,
                "Create": AtOnce(self.create),
                "Update": AtOnce(self.update),
                "Delete": AtOnce(self.delete),
            },
        )

    def find(self, namespace: str, id: str) -> api.Container:
        """The record of a container. Raises NotFound."""
        row = self._metadata.one(
            "SELECT record FROM containers WHERE namespace = ? AND id = ?", namespace, id
        )
        if row is None:
            raise NotFound(f'container "{id}" in namespace "{namespace}": not found')
        return api.Container.FromString(row[0])

    async def get(self, call: Call, request: api.GetContainerRequest) -> api.GetContainerResponse:
        return api.GetContainerResponse(container=self.find(namespace_of(call), request.id))

    async def list_all(
        self, call: Call, request: api.ListContainersRequest
    ) -> api.ListContainersResponse:
        return api.ListContainersResponse(containers=self._matching(call, request))

    async def list_stream(
        self, call: Call, request: api.ListContainersRequest
    ) -> AsyncIterator[api.ListContainerMessage]:
        for container in self._matching(call, request):
            yield api.ListContainerMessage(container=container)

    def labelled(self, label: str) -> list[tuple[str, api.Container]]:
        """Every record that has the label, of all namespaces, with its namespace."""
        rows = self._metadata.execute(
            "SELECT namespace, record FROM containers WHERE instr(record, CAST(? AS BLOB))"
            " ORDER BY namespace, id",
            label,
        ).fetchall()
        found = ((namespace, api.Container.FromString(record)) for namespace, record in rows)
        return [one for one in found if label in one[1].labels]

    def _matching(self, call: Call, request: api.ListContainersRequest) -> list[api.Container]:
        wanted = filters.parse_all(request.filters)
        accepts = filters.any_of(wanted)
        records = self._records(namespace_of(call), filters.values_of(wanted, ("id",)))
        return [container for container in records if accepts(_view(container))]

    def _records(self, namespace: str, ids: list[str] | None) -> Iterator[api.Container]:
        query = "SELECT record FROM containers WHERE namespace = ?"
        if ids is not None:
            query += f" AND id IN ({placeholders(ids)})"
        rows = self._metadata.execute(query + " ORDER BY id", namespace, *(ids or ()))
        return (api.Container.FromString(record) for (record,) in rows.fetchall())

    async def create(
        self, call: Call, request: api.CreateContainerRequest
    ) -> api.CreateContainerResponse:
        namespace = namespace_of(call)
        container = api.Container()
        container.CopyFrom(request.container)
        _check(container)
        now = now_ns()
        container.created_at.CopyFrom(timestamp(now))
        with self._metadata.transaction():
            self._metadata.ensure_namespace(namespace)
            if self._metadata.one(
                "SELECT 1 FROM containers WHERE namespace = ? AND id = ?", namespace, container.id
            ):
                raise AlreadyExists(f'container "{container.id}": already exists')
            self._write(namespace, container, now)
        self._events.publish(
            namespace,
            "/containers/create",
            happened.ContainerCreate(
                id=container.id,
                image=container.image,
                runtime=happened.ContainerCreate.Runtime(
                    name=container.runtime.name, options=container.runtime.options
                ),
            ),
        )
        self._metadata.durable_soon()
        return api.CreateContainerResponse(container=container)

    async def update(
        self, call: Call, request: api.UpdateContainerRequest
    ) -> api.UpdateContainerResponse:
        namespace, wanted, mask = namespace_of(call), request.container, request.update_mask
        with self._metadata.transaction():
            container = self.find(namespace, check_identifier(wanted.id))
            check_mask(mask, MUTABLE, f'container "{wanted.id}"')
            _refuse_fixed(container, wanted, whole=not mask.paths)
            _change(container, wanted, request)
            _check(container)
            self._write(namespace, container, now_ns())
        self._events.publish(
            namespace,
            "/containers/update",
            happened.ContainerUpdate(
                id=container.id,
                image=container.image,
                labels=container.labels,
                snapshot_key=container.snapshot_key,
            ),
        )
        self._collector.soon()
        self._metadata.durable_soon()
        return api.UpdateContainerResponse(container=container)

    async def delete(self, call: Call, request: api.DeleteContainerRequest) -> Empty:
        namespace, id = namespace_of(call), request.id
        with self._metadata.transaction():
            self.find(namespace, id)
            self._metadata.execute(
                "DELETE FROM containers WHERE namespace = ? AND id = ?", namespace, id
            )
            self._references.drop(Node(namespace, "container", id))
        self._events.publish(namespace, "/containers/delete", happened.ContainerDelete(id=id))
        self._collector.soon()
        self._metadata.durable_soon()
        return Empty()

    def _write(self, namespace: str, container: api.Container, now: int) -> None:
        container.updated_at.CopyFrom(timestamp(now))
        self._metadata.execute(
            "INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?, ?)",
            namespace,
            container.id,
            container.SerializeToString(),
            container.created_at.ToNanoseconds(),
            now,
        )
        held = []
        if container.snapshot_key:
            held.append((SNAPSHOTS + container.snapshotter, container.snapshot_key))
        self._references.set(Node(namespace, "container", container.id), container.labels, held)


def _check(container: api.Container) -> None:
    check_identifier(container.id)
    labels = without_empty(check_labels(container.labels))
    container.labels.clear()
    container.labels.update(labels)
    if not container.runtime.name:
        raise InvalidArgument("container.Runtime.Name must be set: invalid argument")
    if container.snapshot_key and not container.snapshotter:
        raise InvalidArgument(
            "container.Snapshotter must be set if container.SnapshotKey is set: invalid argument"
        )


def _refuse_fixed(container: api.Container, wanted: api.Container, *, whole: bool) -> None:
    """Without a mask everything is replaced; what can not be replaced must then be equal."""
    if not whole:
        return
    if wanted.snapshotter != container.snapshotter:
        raise InvalidArgument("container.Snapshotter field is immutable: invalid argument")
    if wanted.runtime.name != container.runtime.name:
        raise InvalidArgument("container.Runtime.Name field is immutable: invalid argument")


def _change(
    container: api.Container, wanted: api.Container, request: api.UpdateContainerRequest
) -> None:
    mask = request.update_mask
    named = set(mask.paths) or set(MUTABLE)
    labels = update_map(container.labels, wanted.labels, mask)
    container.labels.clear()
    container.labels.update(labels)
    if "spec" in named:
        container.spec.CopyFrom(wanted.spec)
    if "image" in named:
        container.image = wanted.image
    if named & {"snapshotkey", "snapshot_key"}:
        container.snapshot_key = wanted.snapshot_key
    if "extensions" in named:
        container.ClearField("extensions")
        for key, value in wanted.extensions.items():
            container.extensions[key].CopyFrom(value)
    for path in named:
        if path.startswith("extensions."):
            key = path.removeprefix("extensions.")
            container.extensions[key].CopyFrom(wanted.extensions[key])


def _view(container: api.Container) -> filters.Lookup:
    fields = {
        "id": container.id,
        "image": container.image,
        "runtime.name": container.runtime.name,
        "snapshotter": container.snapshotter,
        "snapshotkey": container.snapshot_key,
    }
    return lookup(fields, container.labels)
