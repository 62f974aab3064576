"""`barque doctor`: what crashes, other programs and people leave in disorder, put right again.

Networks are examined by their own part; here is what else a container leaves on a machine: groups,
mounts, namespaces. Only what bears one of our names is looked at, and only what nobody uses goes.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.networks.service import Networks
from barque.daemon.paths import Paths
from barque.linux.mount import MNT_DETACH, umount2
from barque.network.examination import Fault
from barque.network.pool import bound_name

CGROUPS = Path("/sys/fs/cgroup")
MOUNTS = Path("/proc/self/mountinfo")
YOUNG_S = 60.0  # a group that empty and that young is another daemon's, just made

_ID = re.compile(r"[0-9a-f]{64}\Z")


class Doctor:
    def __init__(
        self, networks: Networks, catalogue: Catalogue, paths: Paths, cgroup_parent: str
    ) -> None:
        """`cgroup_parent`: where the groups of containers are; "" when systemd keeps them."""
        self._parent = cgroup_parent.strip("/")
        self._networks = networks
        self._catalogue = catalogue
        self._paths = paths

    async def run(self, *, repair: bool) -> list[dict[str, Any]]:
        """[{"Check", "Object", "Problem", "Repaired"}]: nothing of what is as it should be."""
        found = await self._networks.examine(repair=repair)
        groups = await asyncio.to_thread(empty_groups, CGROUPS, self._parent)
        points = await asyncio.to_thread(mounts_of_containers, self._paths)
        # What was there before now and is of no container now is of none: no await from here on.
        idle = {c.id for c in self._catalogue if not c.state.running and not c.lock.locked()}
        known = {c.id for c in self._catalogue}
        for group in [g for g in groups if g.name in idle or g.name not in known]:
            done = repair and _removed(group)
            found.append(Fault("cgroup", str(group), "it is of no running container", done))
        for point, container in points:
            if container not in known:
                done = repair and _unmounted(point)
                found.append(Fault("mount", point, "it is of no container", done))
        found += self._namespaces()
        return [
            {
                "Check": fault.check,
                "Object": fault.object,
                "Problem": fault.problem,
                "Repaired": fault.repaired,
            }
            for fault in found
        ]

    def _namespaces(self) -> list[Fault]:
        present = set(os.listdir(self._paths.netns))
        lost = sorted({bound_name(sandbox) for sandbox in self._networks.sandboxes()} - present)
        problem = "a container's network namespace is not bound"
        return [Fault("namespace", str(self._paths.netns / name), problem) for name in lost]


def empty_groups(root: Path, parent: str) -> list[Path]:
    """Groups named as containers' are, in which nobody is, and which are not new."""
    now = time.time()
    found = []
    for place in (root / parent, *root.glob(f"*/{parent}")) if parent else ():
        for group in sorted(place.iterdir()) if place.is_dir() else ():
            if not _ID.match(group.name):
                continue
            try:
                young = now - group.stat().st_mtime < YOUNG_S
                busy = any(p.read_text().strip() for p in group.rglob("cgroup.procs"))
            except OSError:  # it is gone meanwhile
                continue
            if not young and not busy:
                found.append(group)
    return found


def mounts_of_containers(paths: Paths, mountinfo: Path = MOUNTS) -> list[tuple[str, str]]:
    """(mount point, id) of what is mounted for containers below our directory; deepest first."""
    found = []
    for line in mountinfo.read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        for parent in (paths.subpaths, paths.shm("x").parent):
            container = point.removeprefix(f"{parent}/").partition("/")[0]
            if _ID.match(container):
                found.append((point, container))
    return found[::-1]


def _removed(group: Path) -> bool:
    """Kernel files vanish with their directory: deepest first."""
    try:
        for below in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
            below.rmdir()
        group.rmdir()
    except OSError:
        return False
    return True


def _unmounted(point: str) -> bool:
    try:
        umount2(point, MNT_DETACH)
    except OSError:
        return False
    return True
