"""Options of the local volume driver: what a volume's directory is a mount of. Pure.

`type`, `o` and `device` are mount(8)'s; as in Docker they belong together. `size` is a quota.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from barque import errors
from barque.linux import mount as m
from barque.volume.quota import parse_size

KNOWN = ("type", "o", "device", "size")

# mount(8), "filesystem-independent mount options": word -> (flag, whether the word clears it)
FLAGS: Mapping[str, tuple[int, bool]] = {
    "defaults": (0, False),
    "ro": (m.MS_RDONLY, False),
    "rw": (m.MS_RDONLY, True),
    "suid": (m.MS_NOSUID, True),
    "nosuid": (m.MS_NOSUID, False),
    "dev": (m.MS_NODEV, True),
    "nodev": (m.MS_NODEV, False),
    "exec": (m.MS_NOEXEC, True),
    "noexec": (m.MS_NOEXEC, False),
    "sync": (m.MS_SYNCHRONOUS, False),
    "async": (m.MS_SYNCHRONOUS, True),
    "dirsync": (m.MS_DIRSYNC, False),
    "remount": (m.MS_REMOUNT, False),
    "mand": (m.MS_MANDLOCK, False),
    "nomand": (m.MS_MANDLOCK, True),
    "atime": (m.MS_NOATIME, True),
    "noatime": (m.MS_NOATIME, False),
    "diratime": (m.MS_NODIRATIME, True),
    "nodiratime": (m.MS_NODIRATIME, False),
    "relatime": (m.MS_RELATIME, False),
    "norelatime": (m.MS_RELATIME, True),
    "strictatime": (m.MS_STRICTATIME, False),
    "nostrictatime": (m.MS_STRICTATIME, True),
    "bind": (m.MS_BIND, False),
    "rbind": (m.MS_BIND | m.MS_REC, False),
}
PROPAGATION: Mapping[str, int] = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
_ADDRESS = re.compile(r"(?:^|,)addr=([^,]*)")


@dataclass(frozen=True, slots=True)
class MountPlan:
    """One mount(2), then another for each propagation word; `source` is the device."""

    source: str
    fstype: str
    flags: int
    data: str
    propagation: tuple[int, ...] = ()

    @property
    def server(self) -> str:
        """The `addr` of a network file system, a name or an address; "" for none."""
        found = _ADDRESS.search(self.data) if self.fstype.startswith(("nfs", "cifs")) else None
        return found[1] if found else ""


def read_only_plan(path: str) -> MountPlan:
    """A directory over itself, so that nobody writes to it there."""
    return MountPlan(path, "none", m.MS_BIND | m.MS_RDONLY, "")


def parse(name: str, options: Mapping[str, str]) -> MountPlan | None:
    """The mount that `options` of volume `name` ask for, None for a plain directory.

    Raises InvalidArgument with Docker's words.
    """
    for key in options:
        if key not in KNOWN:
            raise errors.InvalidArgument(f'create {name}: invalid option: "{key}"')
    size = parse_size(name, options["size"]) if options.get("size") else 0
    given = {key: options[key] for key in ("type", "o", "device") if options.get(key)}
    if not given:
        return None
    if size:
        raise errors.InvalidArgument(
            f"create {name}: size is the quota of a directory; a tmpfs has its own, o=size=..."
        )
    for key in ("device", "type"):
        if key not in given:
            raise errors.InvalidArgument(f'create {name}: missing required option: "{key}"')
    if any("\0" in value for value in given.values()):
        raise errors.InvalidArgument(f"create {name}: an option contains NUL")
    return plan(given["device"], given["type"], given.get("o", ""))


def plan(device: str, fstype: str, words: str) -> MountPlan:
    """`words` are like mount(8)'s -o: flags are the kernel's, the rest is the file system's."""
    flags = 0
    data: list[str] = []
    propagation: list[int] = []
    for word in (word for word in words.split(",") if word):
        if word in FLAGS:
            flag, clears = FLAGS[word]
            flags = flags & ~flag if clears else flags | flag
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        else:
            data.append(word)
    return MountPlan(device, fstype, flags, ",".join(data), tuple(propagation))
