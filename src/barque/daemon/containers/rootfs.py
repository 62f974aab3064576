"""A container's root file system as its snapshot's mounts, and who its users are."""

from __future__ import annotations

from collections.abc import Sequence

from barque.daemon.containers import layers, user
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.supervise import RootfsMount
from barque.daemon.containers.user import User


async def writable_rootfs(engine: Engine, container: Container) -> list[RootfsMount]:
    """The mounts of its snapshot; they never change."""
    if container.rootfs is None:
        container.rootfs = await engine.supervisor.mounts(container.id)
    return container.rootfs


def resolve_user(mounts: Sequence[RootfsMount], wanted: str, groups: Sequence[str]) -> User:
    """Read the image's passwd and group. Blocks; run it in a thread."""
    directories = layers.layer_directories(mounts)
    return user.resolve(wanted, groups, lambda path: layers.read_file(directories, path))
