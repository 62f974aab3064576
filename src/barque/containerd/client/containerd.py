"""A containerd, ours or the real one, as the daemon sees it: one namespace, all services.

containerd = await Containerd.connect("/run/barque/containerd.sock", "moby")
async with containerd.leased() as held:
    await held.content.put(...)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from barque.containerd.client.channel import Channel
from barque.containerd.client.containers import Containers
from barque.containerd.client.content import Content
from barque.containerd.client.diff import Diff
from barque.containerd.client.events import Events
from barque.containerd.client.images import Images
from barque.containerd.client.introspection import (
    SnapshotterFacts,
    differ_capabilities,
    snapshotter,
)
from barque.containerd.client.leases import Leases
from barque.containerd.client.snapshots import Snapshots
from barque.containerd.client.tasks import Tasks
from barque.containerd.proto import namespaces_pb2, version_pb2
from barque.errors import AlreadyExists, BarqueError

LEASE_LIFETIME_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Version:
    version: str
    revision: str


class Containerd:
    """All services over one connection. Every call raises kinds of `barque.errors`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.content = Content(channel)
        self.images = Images(channel)
        self.snapshots = Snapshots(channel)
        self.containers = Containers(channel)
        self.leases = Leases(channel)
        self.diff = Diff(channel)
        self.tasks = Tasks(channel)
        self.events = Events(channel)

    @classmethod
    async def connect(cls, address: str, namespace: str) -> Containerd:
        """Connect, and make the namespace if it is not there. Raises Unavailable."""
        containerd = cls(Channel(address, namespace))
        try:
            await containerd._ensure_namespace()
        except BaseException:
            containerd.close()
            raise
        return containerd

    @property
    def address(self) -> str:
        return self._channel.address

    @property
    def namespace(self) -> str:
        return self._channel.namespace

    def close(self) -> None:
        self._channel.close()

    async def snapshotter(self, name: str) -> SnapshotterFacts:
        """Whether it is there, and what it can do beyond the contract."""
        return await snapshotter(self._channel, name)

    async def differ_capabilities(self) -> frozenset[str]:
        """What `diff` can do beyond containerd's: its `FOLLOW` and `PLACES`."""
        return await differ_capabilities(self._channel)

    async def version(self) -> Version:
        answer = await self._channel.unary(
            "containerd.services.version.v1.Version",
            "Version",
            Empty(),
            version_pb2.VersionResponse,
        )
        return Version(answer.version, answer.revision)

    def with_lease(self, id: str) -> Containerd:
        """The same, but what its calls make is held by the lease `id`. Shares the connection."""
        return Containerd(self._channel.with_lease(id))

    @asynccontextmanager
    async def leased(self, lifetime_s: float = LEASE_LIFETIME_S) -> AsyncIterator[Containerd]:
        """A lease for as long as the block runs; should we die, it ends after `lifetime_s`."""
        lease = await self.leases.create(lifetime_s=lifetime_s)
        try:
            yield self.with_lease(lease.id)
        finally:
            with suppress(BarqueError):  # it ends by itself
                await self.leases.delete(lease.id)

    async def _ensure_namespace(self) -> None:
        request = namespaces_pb2.CreateNamespaceRequest(
            namespace=namespaces_pb2.Namespace(name=self.namespace)
        )
        with suppress(AlreadyExists):
            await self._channel.unary(
                "containerd.services.namespaces.v1.Namespaces",
                "Create",
                request,
                namespaces_pb2.CreateNamespaceResponse,
            )
