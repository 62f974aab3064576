"""gRPC sandbox Store: records of what sandboxes (pods) are made from. Nothing here runs."""

from __future__ import annotations

from barque.containerd import filters
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import check_identifier, check_labels, namespace_of
from barque.containerd.messages import lookup, timestamp, without_empty
from barque.containerd.metadata import Metadata, now_ns
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.errors import AlreadyExists, InvalidArgument, NotFound

MUTABLE = ("labels", "extensions", "spec", "runtime")


class Sandboxes:
    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Store"],
            {
                "Create": AtOnce(self.create),
                "Update": AtOnce(self.update),
                "Delete": AtOnce(self.delete),
                "List": AtOnce(self.list_all),
                "Get": AtOnce(self.get),
            },
        )

    def find(self, namespace: str, id: str) -> Sandbox:
        """Raises NotFound."""
        row = self._metadata.one(
            "SELECT record FROM sandboxes WHERE namespace = ? AND id = ?", namespace, id
        )
        if row is None:
            raise NotFound(f'sandbox "{id}": not found')
        return Sandbox.FromString(row[0])

    def sandboxer(self, namespace: str, id: str) -> str:
        """What makes the sandbox, by its record; "" where that does not say, or is not there."""
        try:
            return self.find(namespace, id).sandboxer
        except NotFound:
            return ""

    async def create(self, call: Call, request: api.StoreCreateRequest) -> api.StoreCreateResponse:
        namespace = namespace_of(call)
        sandbox = Sandbox()
        sandbox.CopyFrom(request.sandbox)
        _check(sandbox)
        now = now_ns()
        sandbox.created_at.CopyFrom(timestamp(now))
        with self._metadata.transaction():
            self._metadata.ensure_namespace(namespace)
            if self._metadata.one(
                "SELECT 1 FROM sandboxes WHERE namespace = ? AND id = ?",
                namespace,
                sandbox.sandbox_id,
            ):
                raise AlreadyExists(f'sandbox "{sandbox.sandbox_id}": already exists')
            self._write(namespace, sandbox, now)
        self._metadata.durable_soon()
        return api.StoreCreateResponse(sandbox=sandbox)

    async def update(self, call: Call, request: api.StoreUpdateRequest) -> api.StoreUpdateResponse:
        """Without `fields` all that may change does; `labels.KEY` and `extensions.KEY` name one."""
        namespace, wanted = namespace_of(call), request.sandbox
        with self._metadata.transaction():
            sandbox = self.find(namespace, check_identifier(wanted.sandbox_id))
            for field in request.fields or MUTABLE:
                _change(sandbox, wanted, field)
            _check(sandbox)
            self._write(namespace, sandbox, now_ns())
        self._metadata.durable_soon()
        return api.StoreUpdateResponse(sandbox=sandbox)

    async def delete(self, call: Call, request: api.StoreDeleteRequest) -> api.StoreDeleteResponse:
        namespace = namespace_of(call)
        with self._metadata.transaction():
            self.find(namespace, request.sandbox_id)
            self._metadata.execute(
                "DELETE FROM sandboxes WHERE namespace = ? AND id = ?",
                namespace,
                request.sandbox_id,
            )
        self._metadata.durable_soon()
        return api.StoreDeleteResponse()

    async def list_all(self, call: Call, request: api.StoreListRequest) -> api.StoreListResponse:
        accepts = filters.any_of(filters.parse_all(request.filters))
        rows = self._metadata.execute(
            "SELECT record FROM sandboxes WHERE namespace = ? ORDER BY id", namespace_of(call)
        )
        found = [Sandbox.FromString(record) for (record,) in rows]
        return api.StoreListResponse(list=[one for one in found if accepts(_view(one))])

    async def get(self, call: Call, request: api.StoreGetRequest) -> api.StoreGetResponse:
        return api.StoreGetResponse(sandbox=self.find(namespace_of(call), request.sandbox_id))

    def _write(self, namespace: str, sandbox: Sandbox, now: int) -> None:
        sandbox.updated_at.CopyFrom(timestamp(now))
        self._metadata.execute(
            "INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?)",
            namespace,
            sandbox.sandbox_id,
            sandbox.SerializeToString(),
        )


def _check(sandbox: Sandbox) -> None:
    check_identifier(sandbox.sandbox_id)
    labels = without_empty(check_labels(sandbox.labels))
    sandbox.labels.clear()
    sandbox.labels.update(labels)


def _change(sandbox: Sandbox, wanted: Sandbox, field: str) -> None:
    name, _, key = field.partition(".")
    if name not in MUTABLE or (key and name not in ("labels", "extensions")):
        raise InvalidArgument(
            f'cannot update "{field}" field on sandbox "{sandbox.sandbox_id}": invalid argument'
        )
    if name == "labels":
        changed = {key: wanted.labels.get(key, "")} if key else dict(wanted.labels)
        if not key:
            sandbox.labels.clear()
        sandbox.labels.update(changed)
    elif name == "extensions":
        if not key:
            sandbox.ClearField("extensions")
        for one in [key] if key else list(wanted.extensions):
            sandbox.extensions[one].CopyFrom(wanted.extensions[one])
    elif name == "spec":
        sandbox.spec.CopyFrom(wanted.spec)
    else:
        sandbox.runtime.CopyFrom(wanted.runtime)


def _view(sandbox: Sandbox) -> filters.Lookup:
    fields = {
        "id": sandbox.sandbox_id,
        "runtime.name": sandbox.runtime.name,
        "sandboxer": sandbox.sandboxer,
    }
    return lookup(fields, sandbox.labels)
