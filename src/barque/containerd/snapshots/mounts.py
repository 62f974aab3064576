"""The mounts that snapshots are shown by: one directory as it is, or several over each other."""

from __future__ import annotations

from collections.abc import Sequence

from barque.containerd.snapshots.remapping import options_of
from barque.containerd.snapshots.snapshotter import VIEW, Mount
from barque.oci.id_maps import IdMaps


def bind(path: str, kind: int, ids: IdMaps | None) -> list[Mount]:
    """The directory `path`: read-only for a view."""
    access = "ro" if kind == VIEW else "rw"
    return [Mount("bind", path, (*options_of(ids), access, "rbind"))]


def overlay(
    options: Sequence[str],
    lowers: Sequence[str],
    ids: IdMaps | None,
    *,
    upper: str = "",
    work: str = "",
) -> list[Mount]:
    """The directories `lowers`, top first; without `upper` and its `work` read-only."""
    chosen = [*options, *options_of(ids)]
    if upper:
        chosen += [f"workdir={work}", f"upperdir={upper}"]
    return [Mount("overlay", "overlay", (*chosen, "lowerdir=" + ":".join(lowers)))]
