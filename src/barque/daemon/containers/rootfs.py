"""A container's root file system as its snapshot's mounts, and who its users are."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from barque import errors
from barque.daemon.containers import layers, user
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.supervise import RootfsMount
from barque.daemon.containers.user import User
from barque.oci.id_maps import IdMaps

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


async def writable_rootfs(engine: Engine, container: Container) -> list[RootfsMount]:
    """The mounts of its snapshot; they never change."""
    if container.rootfs is None:
        container.rootfs = await engine.supervisor.mounts(container.id)
    return container.rootfs


def mark(mounts: Sequence[RootfsMount]) -> None:
    """Put an empty `/.dockerenv` into a snapshot that has just been made.

    Programs look for it to know that they are in a container. Docker: daemon/initlayer.
    """
    for mount in mounts:
        words = {key: value for key, _, value in (o.partition("=") for o in mount.options)}
        if upper := words.get("upperdir", ""):
            ids = IdMaps(words["uidmap"], words["gidmap"]) if "uidmap" in words else None
            _touch(f"{upper}/.dockerenv", ids.root if ids else None)
        elif mount.type == "bind":  # of which the mount as a whole has other ids
            _touch(f"{mount.source}/.dockerenv", None)


def _touch(path: str, owner: tuple[int, int] | None) -> None:
    """Nothing is followed: in a snapshot that is a copy the name may be the image's."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755)
        try:
            if owner is not None:
                os.fchown(fd, *owner)
        finally:
            os.close(fd)
    except FileExistsError:
        pass
    except OSError as error:
        kind = errors.ResourceExhausted if error.errno in _FULL else errors.BarqueError
        raise kind(f"{path}: {(error.strerror or str(error)).lower()}") from error


def resolve_user(mounts: Sequence[RootfsMount], wanted: str, groups: Sequence[str]) -> User:
    """Read the image's passwd and group. Blocks; run it in a thread."""
    directories = layers.layer_directories(mounts)
    return user.resolve(wanted, groups, lambda path: layers.read_file(directories, path))
