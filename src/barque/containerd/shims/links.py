"""The connection to a shim, by the protocol that its `start` has named."""

from __future__ import annotations

from barque.containerd import ttrpc
from barque.containerd.shims.grpc_link import GrpcLink
from barque.containerd.shims.grpc_link import connect as connect_grpc
from barque.containerd.shims.launch import GRPC, Address

Link = ttrpc.Connection | GrpcLink


async def connect(address: Address, name: str, namespace: str) -> Link:
    """`name` is for error texts. Raises NobodyListens, and Unavailable."""
    if address.protocol == GRPC:
        return await connect_grpc(address.url, name, namespace)
    return await ttrpc.connect(address.url, name)
