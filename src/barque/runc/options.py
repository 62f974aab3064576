"""Mount options: the words of config.json as what the kernel's mount calls take. Pure.

config.md, "Linux mount options". A word is an attribute of the mount (set or cleared, alone or with
all below it: the r-words), a propagation, a word of ours, or data for the filesystem.
"""

from __future__ import annotations

import barque.linux.mount as kernel
from barque.errors import InvalidArgument, Unsupported
from barque.oci.runtime import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Mount

# word: bits set, bits cleared
ATTRIBUTES = {
    "ro": (kernel.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, kernel.MOUNT_ATTR_RDONLY),
    "nosuid": (kernel.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, kernel.MOUNT_ATTR_NOSUID),
    "nodev": (kernel.MOUNT_ATTR_NODEV, 0),
    "dev": (0, kernel.MOUNT_ATTR_NODEV),
    "noexec": (kernel.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, kernel.MOUNT_ATTR_NOEXEC),
    "nodiratime": (kernel.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, kernel.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (kernel.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, kernel.MOUNT_ATTR_NOSYMFOLLOW),
    "noatime": (kernel.MOUNT_ATTR_NOATIME, kernel.MOUNT_ATTR__ATIME),
    "atime": (kernel.MOUNT_ATTR_RELATIME, kernel.MOUNT_ATTR__ATIME),
    "relatime": (kernel.MOUNT_ATTR_RELATIME, kernel.MOUNT_ATTR__ATIME),
    "norelatime": (kernel.MOUNT_ATTR_STRICTATIME, kernel.MOUNT_ATTR__ATIME),
    "strictatime": (kernel.MOUNT_ATTR_STRICTATIME, kernel.MOUNT_ATTR__ATIME),
    "nostrictatime": (kernel.MOUNT_ATTR_RELATIME, kernel.MOUNT_ATTR__ATIME),
}
PROPAGATION = {
    "private": (kernel.MS_PRIVATE, False),
    "rprivate": (kernel.MS_PRIVATE, True),
    "shared": (kernel.MS_SHARED, False),
    "rshared": (kernel.MS_SHARED, True),
    "slave": (kernel.MS_SLAVE, False),
    "rslave": (kernel.MS_SLAVE, True),
    "unbindable": (kernel.MS_UNBINDABLE, False),
    "runbindable": (kernel.MS_UNBINDABLE, True),
}
# Attributes of the filesystem, which a bind mount cannot change: the kernel ignores them there.
SUPERBLOCK = {
    "async": "async",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    "mand": "mand",
    "nolazytime": "nolazytime",
    "nomand": "nomand",
    "sync": "sync",
}
WITHOUT_EFFECT = ("defaults", "loud", "noiversion", "silent")
ID_MAPPED = ("idmap", "ridmap")
OURS = ("bind", "rbind", "remount", "tmpcopyup", "", *ID_MAPPED)
REFUSED = ("iversion",)
# Filesystems without a device: `ro` is the mount's alone, as others may share the superblock.
DEVICELESS = frozenset(
    (
        *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "fusectl"),
        *("hugetlbfs", "mqueue", "proc", "pstore", "ramfs", "securityfs", "sysfs", "tmpfs"),
        "tracefs",
    )
)


class Options(Value):
    """The options of one mount."""

    __slots__ = (
        "attr_clr",
        "attr_set",
        "bind",
        "copy_up",
        "data",
        "id_mapped",
        "propagation",
        "rec_clr",
        "rec_set",
        "recursive",
        "remount",
    )
    bind: bool
    recursive: bool  # the bind mount brings those below its source
    attr_set: int
    attr_clr: int
    rec_set: int
    rec_clr: int
    propagation: tuple[tuple[int, bool], ...]  # MS_*, with all below
    copy_up: bool  # a tmpfs gets what it covers
    data: tuple[tuple[str, str | None], ...]
    id_mapped: str  # idmap, ridmap (with all below) or nothing
    remount: bool  # change the mount that is there


def parse_options(mount: Mount) -> Options:
    """Sort the words of one mount. InvalidArgument, Unsupported name the word."""
    words = list(mount.options)
    bind = mount.type == "bind" or "bind" in words or "rbind" in words
    attr_set = attr_clr = rec_set = rec_clr = 0
    propagation: list[tuple[int, bool]] = []
    data: dict[str, str | None] = {}
    for word in words:
        if word in ATTRIBUTES:
            attr_set, attr_clr = _apply(attr_set, attr_clr, *ATTRIBUTES[word])
        elif word[:1] == "r" and word[1:] in ATTRIBUTES:
            rec_set, rec_clr = _apply(rec_set, rec_clr, *ATTRIBUTES[word[1:]])
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word in REFUSED:
            raise Unsupported(f"mount {mount.destination}: option {word} is not supported")
        elif word in SUPERBLOCK:
            data[SUPERBLOCK[word]] = None
        elif word not in OURS and word not in WITHOUT_EFFECT:
            key, equals, value = word.partition("=")
            if not key:
                raise InvalidArgument(f"mount {mount.destination}: option {word!r} has no name")
            data[key] = value if equals else None
    if "tmpcopyup" in words and mount.type != "tmpfs":
        raise InvalidArgument(f"mount {mount.destination}: tmpcopyup is for tmpfs only")
    id_mapped = next((word for word in reversed(words) if word in ID_MAPPED), "")
    if not bind and (id_mapped or mount.uid_mappings or mount.gid_mappings):
        raise InvalidArgument(f"mount {mount.destination}: only bind mounts may have ids mapped")
    if attr_set & kernel.MOUNT_ATTR_RDONLY and not bind and mount.type not in DEVICELESS:
        data["ro"] = None
    return Options(
        bind=bind,
        recursive="rbind" in words,
        attr_set=attr_set,
        attr_clr=attr_clr,
        rec_set=rec_set,
        rec_clr=rec_clr,
        propagation=tuple(propagation),
        copy_up="tmpcopyup" in words,
        data=() if bind else tuple(data.items()),
        id_mapped=id_mapped,
        remount="remount" in words,
    )


def _apply(bits: int, cleared: int, to_set: int, to_clear: int) -> tuple[int, int]:
    """Later words win over earlier ones."""
    bits = bits & ~to_clear | to_set
    return bits, (cleared & ~to_set | to_clear if to_clear else cleared & ~to_set)
