"""Storage drivers by Docker's names, which are containerd's snapshotters to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barque import errors

if TYPE_CHECKING:  # the configuration is read before anything of containerd is needed
    from barque.containerd.client import Containerd

SNAPSHOTTERS: Mapping[str, str] = {
    "overlay2": "overlayfs",
    "overlayfs": "overlayfs",
    "vfs": "native",
    "native": "native",
    "btrfs": "btrfs",
    "erofs": "erofs",
    "devicemapper": "devmapper",
    "zfs": "zfs",
    "fuse-overlayfs": "fuse-overlayfs",
}
DEFAULT = "overlayfs"
# Drivers whose containers are directories of one file system, which has one label.
SHARE_A_FILE_SYSTEM = frozenset({"native", "btrfs"})
QUOTA = "io.barque.quota"
REBASE = "rebase"
REMAP = "remap-ids"
UID_LABEL = "containerd.io/snapshot/uidmapping"
GID_LABEL = "containerd.io/snapshot/gidmapping"
SIZE_LABEL = "io.barque.snapshot.size"
_SHOWN = {"overlayfs": "overlay2", "native": "vfs", "devmapper": "devicemapper"}


def driver_of(snapshotter: str) -> str:
    """What Docker calls it."""
    return _SHOWN.get(snapshotter, snapshotter)


async def check(containerd: Containerd, snapshotter: str) -> frozenset[str]:
    """The capabilities of this containerd's snapshotter. Raises Unsupported: it is not there."""
    facts = await containerd.snapshotter(snapshotter)
    if facts.missing:
        raise errors.Unsupported(
            f"error initializing graphdriver: driver not supported: {driver_of(snapshotter)}: "
            f"{facts.missing}"
        )
    return facts.capabilities


async def check_remapping(containerd: Containerd, snapshotter: str) -> None:
    """Raises Unsupported where snapshots cannot be seen with other ids."""
    if REMAP not in await check(containerd, snapshotter):
        raise errors.Unsupported(
            f"userns-remap: storage driver {driver_of(snapshotter)} cannot show images with other "
            "ids here: that takes id-mapped mounts (overlay2: Linux 5.19)"
        )
