"""Whether mounts can pass between a bind's source and the container, as was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from barque import errors
from barque.daemon.containers.record import MountPoint

SHARED = frozenset({"shared", "rshared"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check(point: MountPoint) -> None:
    """Raises BarqueError for a bind that is to be shared where its source's mount is not.

    Docker: daemon/oci_linux.go, which says so before the runtime is asked.
    """
    if point.propagation not in SHARED:
        return
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        place, shared = mount_of(os.path.realpath(point.source), lines)
    if not shared:
        raise errors.BarqueError(
            f"path {point.source} is mounted on {place} but it is not a shared mount"
        )


def mount_of(path: str, mountinfo: Iterable[str]) -> tuple[str, bool]:
    """The mount that has the real `path`, and whether it is shared. See proc_pid_mountinfo(5)."""
    found = ("/", False)
    for place, shared in _mounts(mountinfo):
        inside = path == place or path.startswith(f"{place.rstrip('/')}/")
        if inside and len(place) >= len(found[0]):  # a later one hides an earlier one
            found = (place, shared)
    return found


def _mounts(mountinfo: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for line in mountinfo:
        fields = line.split()
        tags = fields[6 : fields.index("-", 6)]
        place = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
        yield place, any(tag.startswith("shared:") for tag in tags)
