"""The ids of what an overlay with mapped ids has in its upper directory, as a container knows them.

A capability there names the root it is for (struct vfs_ns_cap_data); a layer's is anybody's.
Source: Linux, include/uapi/linux/capability.h.
"""

from __future__ import annotations

import os
import struct

from barque.containerd.proto.types_pb2 import Mount
from barque.containerd.snapshots.remapping import ids_of_options
from barque.errors import Unsupported
from barque.oci.id_maps import IdMaps

CAPABILITY = b"security.capability"
REVISION_MASK = 0xFF000000
REVISION_2, REVISION_3 = 0x02000000, 0x03000000
WITH_ROOT = struct.Struct("<I16sI")  # magic, the capabilities, whose root


def mapped_ids(mount: Mount) -> IdMaps | None:
    """Those of an overlay mount that asks for them. Raises InvalidArgument."""
    if mount.type != "overlay":
        return None
    return ids_of_options(dict(option.partition("=")[::2] for option in mount.options))


def own_ids(ids: IdMaps, facts: os.stat_result, name: bytes) -> tuple[int, int]:
    """Owner and group inside. Raises Unsupported for a file of somebody who is not inside."""
    uid, gid = ids.uids.to_container(facts.st_uid), ids.gids.to_container(facts.st_gid)
    if uid < 0 or gid < 0:
        raise Unsupported(
            f"{name[:200]!r} belongs to {facts.st_uid}:{facts.st_gid}, which the ids of the "
            "snapshot do not have"
        )
    return uid, gid


def with_own_root(ids: IdMaps, xattrs: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """Capabilities for the root inside become ones for root."""
    value = (xattrs or {}).get(CAPABILITY, b"")
    if xattrs is None or len(value) != WITH_ROOT.size:
        return xattrs
    magic, capabilities, root = WITH_ROOT.unpack(value)
    if magic & REVISION_MASK != REVISION_3 or ids.uids.to_container(root) != 0:
        return xattrs
    plain = struct.pack("<I16s", magic & ~REVISION_MASK | REVISION_2, capabilities)
    return {**xattrs, CAPABILITY: plain}
