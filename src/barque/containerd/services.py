"""containerd's services over the stores, and what the server says of itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from barque.containerd.config import RESTART
from barque.containerd.containers import Containers
from barque.containerd.content.blobs import Blobs
from barque.containerd.content.service import Content
from barque.containerd.diff.ahead import Ahead
from barque.containerd.diff.service import FOLLOW, PLACES, Diff
from barque.containerd.events import Exchange
from barque.containerd.grpc import Service
from barque.containerd.images import Images
from barque.containerd.leases import Leases
from barque.containerd.mounts.activations import Activations
from barque.containerd.mounts.service import Mounts
from barque.containerd.namespaces import Namespaces
from barque.containerd.paths import Paths
from barque.containerd.sandboxes import Sandboxes
from barque.containerd.snapshots.service import Snapshots
from barque.containerd.snapshots.stores import KINDS, SnapshotStores
from barque.containerd.stores import Stores
from barque.containerd.streaming import Streams
from barque.containerd.transfer.service import Transfer
from barque.containerd.transfer.unpack import Unpacker
from barque.containerd.version import Introspection, Plugin, Version, server_id
from barque.errors import NotFound, Unsupported

SNAPSHOTTER = "io.containerd.snapshotter.v1"
SERVICES = (
    *("containers", "content", "diff", "events", "images", "introspection", "leases", "mounts"),
    *("namespaces", "sandboxes", "snapshots", "streaming", "tasks", "transfer", "version"),
)


class Kept(NamedTuple):
    """The services of what is kept, and those of them that others ask too."""

    services: list[Service]
    containers: Containers
    snapshots: Snapshots
    sandboxes: Sandboxes
    blobs: Blobs
    ahead: Ahead
    activations: Activations


def over(stores: Stores, paths: Paths, exchange: Exchange, known: Sequence[Plugin]) -> Kept:
    """`known`: what the server says that it is made of."""
    metadata, references, content, *_ = stores
    collector = stores.collector
    blobs = Blobs(content, metadata, references)
    containers = Containers(metadata, references, exchange, collector)
    images = Images(metadata, references, exchange, collector)
    snapshots = Snapshots(
        stores.snapshots, metadata, references, exchange, collector, stores.settling
    )
    leases = Leases(metadata, references, collector)
    ahead = Ahead(stores.snapshots)
    layers = Blobs(content, metadata, references, ahead.coming)
    diff = Diff(content, blobs, stores.origins, ahead)
    streams = Streams()
    sandboxes = Sandboxes(metadata)
    activations = Activations(paths.mounts, paths.root)
    transfer = Transfer(
        streams, blobs, images, leases, Unpacker(snapshots, diff), os.uname().machine, layers
    )
    services = [
        Version().service(),
        Introspection(known, server_id(paths.uuid)).service(),
        Namespaces(metadata, exchange).service(),
        Content(content, metadata, references, exchange, ahead.coming).service(),
        images.service(),
        snapshots.service(),
        containers.service(),
        leases.service(),
        diff.service(),
        sandboxes.service(),
        streams.service(),
        Mounts(activations).service(),
        transfer.service(),
    ]
    return Kept(services, containers, snapshots, sandboxes, blobs, ahead, activations)


def check_plugins(
    known: Sequence[Plugin], required: Sequence[str], disabled: Sequence[str]
) -> None:
    """Raises NotFound for one that is required, Unsupported for one we cannot be without."""
    names = {f"{one.type}.{one.id}" for one in known}
    for name in required:
        if name not in names or name in disabled:
            raise NotFound(f"required plugin {name} is not there")
    for name in disabled:
        if name in names and not name.startswith(SNAPSHOTTER) and name != RESTART:
            raise Unsupported(f"plugin {name} cannot be disabled")


def plugins(paths: Paths, snapshots: SnapshotStores) -> list[Plugin]:
    """This server's parts in containerd's words: clients look for snapshotters among them."""
    return [
        Plugin("io.containerd.content.v1", "content", {"root": str(paths.content)}),
        *(
            Plugin(
                SNAPSHOTTER,
                name,
                {"root": str(paths.snapshotter(name))},
                partial(snapshots.missing, name),
                partial(snapshots.capabilities, name),
            )
            for name in KINDS
        ),
        Plugin("io.containerd.metadata.v1", "bolt", {"policy": "shared"}),
        Plugin("io.containerd.differ.v1", "walking", capabilities=lambda: (FOLLOW, PLACES)),
        Plugin("io.containerd.gc.v1", "scheduler"),
        Plugin("io.containerd.internal.v1", "restart"),
        Plugin("io.containerd.mount-manager.v1", "bolt"),
        Plugin("io.containerd.runtime.v2", "task"),
        Plugin("io.containerd.sandbox.controller.v1", "podsandbox"),
        Plugin("io.containerd.sandbox.controller.v1", "shim"),
        Plugin("io.containerd.sandbox.store.v1", "local"),
        Plugin("io.containerd.streaming.v1", "manager"),
        Plugin("io.containerd.transfer.v1", "local"),
        *(Plugin("io.containerd.grpc.v1", name) for name in SERVICES),
    ]
