"""Snapshots seen with other ids, as labels ask for it: containerd's capability "remap-ids".

An overlay keeps the writable directory in the machine's own ids and maps what is below; a bind
mount is mapped as a whole, so that what is on disk stays in the container's ids. It is who mounts
that maps: the mounts say `uidmap=` and `gidmap=`.
Source: containerd, core/snapshots (LabelSnapshotUIDMapping), plugins/snapshots/overlay, core/mount.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from barque.errors import InvalidArgument, Unsupported
from barque.linux import id_mapped
from barque.linux.mount import open_tree
from barque.oci.id_maps import IdMaps

REMAP = "remap-ids"
UID_LABEL = "containerd.io/snapshot/uidmapping"
GID_LABEL = "containerd.io/snapshot/gidmapping"
OVERLAYS_SINCE = (5, 19)  # that take id-mapped layers


def ids_of(labels: Mapping[str, str]) -> IdMaps | None:
    """What the labels of a snapshot ask for. Raises InvalidArgument."""
    uids, gids = labels.get(UID_LABEL, ""), labels.get(GID_LABEL, "")
    if not uids and not gids:
        return None
    if not uids or not gids:
        raise InvalidArgument(f"labels {UID_LABEL} and {GID_LABEL} go together")
    maps = IdMaps(uids, gids)
    if min(maps.root) < 0:
        raise InvalidArgument(f"labels {UID_LABEL} and {GID_LABEL} leave nobody to be root")
    return maps


def options_of(ids: IdMaps | None) -> tuple[str, ...]:
    """What a mount says of them."""
    return () if ids is None else (f"uidmap={ids.uids.text}", f"gidmap={ids.gids.text}")


def ids_of_options(options: Mapping[str, str]) -> IdMaps | None:
    """The other way round. Raises InvalidArgument."""
    if "uidmap" not in options and "gidmap" not in options:
        return None
    return IdMaps(options.get("uidmap", ""), options.get("gidmap", ""))


class Remapping:
    """Whether snapshots below a directory can be seen so."""

    def __init__(self, base: str, *, always: bool = False) -> None:
        """`base` is there by the time it is asked for; `always`: its file system can do it."""
        self._base = base
        self._always = always
        self._possible: bool | None = None

    @property
    def available(self) -> bool:
        if self._possible is None:
            self._possible = _release() >= OVERLAYS_SINCE and (self._always or _tried(self._base))
        return self._possible

    def check(self, ids: IdMaps | None) -> None:
        """Raises Unsupported where `ids` are asked for and cannot be."""
        if ids is not None and not self.available:
            raise Unsupported(
                f"a snapshot cannot be seen with other ids: the file system of {self._base}, or "
                "the kernel, has no id-mapped mounts"
            )


def _release() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or "0")


def _tried(directory: str) -> bool:
    """In a process of its own: only one with a single thread can be cloned without harm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which do not go with it
        pid = os.fork()
    if pid == 0:
        try:
            tree = open_tree(directory)
            id_mapped.map_ids(tree, id_mapped.new_user_namespace("0 1 1\n", "0 1 1\n"))
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
