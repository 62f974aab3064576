"""Who makes the groups of containers: the daemon's runtime in the hierarchy itself, or systemd.

As dockerd chooses: systemd where it runs and cgroups are of version 2, the hierarchy elsewhere;
`exec-opt native.cgroupdriver` says otherwise. Below systemd a container is a scope in a slice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from barque import errors

CGROUPFS = "cgroupfs"
SYSTEMD = "systemd"
OPTION = "native.cgroupdriver"
PARENTS = {CGROUPFS: "/barque", SYSTEMD: "system.slice"}
PREFIX = "barque"  # of a scope's name: barque-ID.scope
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_UNIFIED = "/sys/fs/cgroup/cgroup.controllers"
_SLICE = re.compile(r"-\.slice|[^/:-]+(-[^/:-]+)*\.slice")


def version() -> str:
    return "2" if os.path.exists(_UNIFIED) else "1"


def driver(options: Iterable[str]) -> str:
    """The driver by its name. Raises InvalidArgument for an option that is none."""
    wanted = ""
    for text in options:
        name, _, value = text.partition("=")
        if name != OPTION:
            raise errors.InvalidArgument(f"exec-opt {text!r}: only {OPTION} is known")
        if value not in PARENTS:
            raise errors.InvalidArgument(
                f"exec-opt {text!r}: the cgroup drivers are {CGROUPFS} and {SYSTEMD}"
            )
        wanted = value
    possible = os.path.isdir(_BOOTED) and version() == "2"
    if wanted == SYSTEMD and not possible:
        raise errors.InvalidArgument(
            f"exec-opt {OPTION}={SYSTEMD}: needs a running systemd and cgroup version 2"
        )
    return wanted or (SYSTEMD if possible else CGROUPFS)


def own_parent(options: Iterable[str], parent: str) -> str:
    """Below what group those of containers are; "" where systemd keeps them."""
    return (parent or PARENTS[CGROUPFS]) if driver(options) == CGROUPFS else ""


def check_parent(driver: str, parent: str) -> None:
    """Raises InvalidArgument, in dockerd's words, for what is no slice where one is needed."""
    if driver == SYSTEMD and parent and _SLICE.fullmatch(parent) is None:
        raise errors.InvalidArgument(
            'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'
        )


def path(driver: str, parent: str, container_id: str) -> str:
    """`linux.cgroupsPath` of a container."""
    parent = parent or PARENTS[driver]
    if driver == SYSTEMD:
        return f"{parent}:{PREFIX}:{container_id}"
    return f"/{parent.strip('/')}/{container_id}"
