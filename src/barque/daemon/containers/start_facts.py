"""What is known of a container only when it starts; with its record, all that a spec is made of."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from barque.daemon.containers.user import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node of the host."""

    path: str
    kind: str  # c or b
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str = "rwm"

    def node(self) -> dict[str, object]:
        return {
            "type": self.kind,
            "path": self.path,
            "major": self.major,
            "minor": self.minor,
            "fileMode": stat.S_IMODE(self.mode),
            "uid": self.uid,
            "gid": self.gid,
        }

    def rule(self) -> dict[str, object]:
        return {
            "allow": True,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "access": self.access,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFacts:
    """Paths are host paths. A namespace path of None means a new namespace."""

    user: User
    netns: str | None = None
    pid_namespace: str | None = None
    ipc_namespace: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """/etc/hosts, /etc/hostname and /etc/resolv.conf: destination -> source."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Binds and volumes: destination -> source."""
    shm: str = ""
    """A shareable, another container's or the host's /dev/shm."""
    mqueue: str | None = None
    """The host's queues, where the container may not mount them itself; "" where it has none."""
    devices: Sequence[Device] = ()
    init: str = ""
