"""What a containerd has: of its plugins, the snapshotters."""

from __future__ import annotations

from typing import NamedTuple

from barque.containerd.client.channel import Channel
from barque.containerd.proto import introspection_pb2 as api

SERVICE = "containerd.services.introspection.v1.Introspection"
SNAPSHOTTER = "io.containerd.snapshotter.v1"
DIFFER = "io.containerd.differ.v1"
SKIPPED = ": skip plugin"


class SnapshotterFacts(NamedTuple):
    missing: str  # why it cannot be used; "" when it can
    capabilities: frozenset[str] = frozenset()


async def differ_capabilities(channel: Channel) -> frozenset[str]:
    request = api.PluginsRequest(filters=[f"type=={DIFFER},id==walking"])
    answer = await channel.unary(SERVICE, "Plugins", request, api.PluginsResponse)
    return frozenset(answer.plugins[0].capabilities) if answer.plugins else frozenset()


async def snapshotter(channel: Channel, name: str) -> SnapshotterFacts:
    request = api.PluginsRequest(filters=[f"type=={SNAPSHOTTER},id=={name}"])
    answer = await channel.unary(SERVICE, "Plugins", request, api.PluginsResponse)
    if not answer.plugins:
        return SnapshotterFacts("containerd has no such snapshotter")
    plugin = answer.plugins[0]
    if plugin.HasField("init_err"):
        return SnapshotterFacts(plugin.init_err.message.removesuffix(SKIPPED))
    return SnapshotterFacts("", frozenset(plugin.capabilities))
