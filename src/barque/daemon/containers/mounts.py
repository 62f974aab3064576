"""The user's mounts, from all the places they can be asked for, as one plan.

Later places win over earlier ones for the same destination, as in Docker:
volumes-from < binds (`-v`) and mounts (`--mount`), which must not collide < tmpfs; then the volumes
that the image or `-v /path` declare, where nothing else is mounted. Pure: nothing is looked up here
but through `HostPaths`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable

from barque import errors
from barque.daemon.containers.documents import Config, HostConfig, Mount
from barque.daemon.containers.record import MountPoint

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
PROPAGATION = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MODE_GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"ro", "rw"}),
    frozenset({"z", "Z"}),
    frozenset({"nocopy"}),
    PROPAGATION,
    frozenset({"consistent", "cached", "delegated", "default"}),
)
_TMPFS_WORDS = (
    "ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime "
    "diratime nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave "
    "rslave relatime norelatime strictatime nostrictatime"
)
_TMPFS_FLAGS = frozenset(_TMPFS_WORDS.split())
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "size"})
LXCFS_FILES = frozenset(
    {
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    }
)
TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")

PathExists = Callable[[str], bool]
OtherMounts = Callable[[str], list[MountPoint]]


def plan(
    config: Config,
    host: HostConfig,
    *,
    new_volume: Callable[[], str],
    exists: PathExists,
    mounts_of: OtherMounts,
    root: str = "",
) -> list[MountPoint]:
    """Every mount of the user's, by destination depth.

    `new_volume` names an anonymous volume, `exists` tells whether a host path does, `mounts_of`
    gives another container's mounts. A bind that holds the daemon's `root`, or lies below it, shows
    what is unmounted there as unmounted: no container holds the files of another.
    Raises InvalidArgument with Docker's words.
    """
    found: dict[str, MountPoint] = {}
    for item in host.volumes_from or ():
        found.update((point.destination, point) for point in _volumes_from(item, mounts_of))
    asked: dict[str, MountPoint] = {}
    for point in _asked(host, new_volume, exists):
        if point.type == "bind":
            point.propagation = _propagation(point, root)
        if point.destination in asked or point.destination in _tmpfs_destinations(host):
            raise errors.InvalidArgument(f"Duplicate mount point: {point.destination}")
        asked[point.destination] = point
    found.update(asked)
    for destination, options in (host.tmpfs or {}).items():
        point = _tmpfs(destination, options)
        found[point.destination] = point
    for destination in config.volumes or {}:
        clean = _destination(destination, "volume")
        if clean not in found:
            found[clean] = _anonymous(clean, host.volume_driver, new_volume())
    for point in found.values():
        _refuse_over_proc(point)
    return sorted(found.values(), key=lambda point: (_depth(point.destination), point.destination))


def _propagation(point: MountPoint, root: str) -> str:
    """What a bind asked for, or what it gets. Docker: daemon/mounts.go, validateBindDaemonRoot."""
    if not root or not (_holds(point.source, root) or _holds(root, point.source)):
        return point.propagation or "rprivate"
    if point.propagation not in {"", "rslave", "rshared"}:
        raise errors.InvalidArgument(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when '
            f'mount source is within the daemon root, daemon root: "{root}", '
            f'bind mount source: "{point.source}", propagation: "{point.propagation}"'
        )
    return point.propagation or "rslave"


def _holds(directory: str, path: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _refuse_over_proc(point: MountPoint) -> None:
    """CVE-2015-3630, CVE-2019-16884: what is not procfs must not stand in its place.

    As runc has it: only the host's own /proc, and the files that lxcfs serves.
    """
    path = point.destination
    if path != "/proc" and not path.startswith("/proc/"):
        return
    if path.removeprefix("/proc/") in LXCFS_FILES:
        return
    if path == "/proc" and point.type == "bind" and point.source == "/proc":
        return
    raise errors.InvalidArgument(
        f'invalid mount config for type "{point.type}": "{point.source or point.name}" cannot be '
        f"mounted to {point.destination} because it is inside /proc"
    )


def _asked(
    host: HostConfig, new_volume: Callable[[], str], exists: PathExists
) -> Iterable[MountPoint]:
    for bind in host.binds or ():
        yield parse_bind(bind, host.volume_driver, new_volume)
    for mount in host.mounts or ():
        yield _mount(mount, host.volume_driver, new_volume, exists)


def _tmpfs_destinations(host: HostConfig) -> set[str]:
    return {posixpath.normpath(destination) for destination in host.tmpfs or ()}


def _depth(destination: str) -> int:
    return len([part for part in destination.split("/") if part])


def _anonymous(destination: str, driver: str, name: str) -> MountPoint:
    return MountPoint(
        type="volume",
        destination=destination,
        name=name,
        driver=driver or "local",
        copy_up=True,
        anonymous=True,
    )


def parse_bind(text: str, driver: str, new_volume: Callable[[], str]) -> MountPoint:
    """One `-v` value: `[source:]destination[:mode]`."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0] or (len(parts) == 2 and _valid_mode(parts[1])):
        raise errors.InvalidArgument(f"invalid volume specification: '{text}'")
    source = parts[0] if len(parts) > 1 else ""
    destination = parts[1] if len(parts) > 1 else parts[0]
    mode = parts[2] if len(parts) == 3 else ""
    if mode and not _valid_mode(mode):
        raise errors.InvalidArgument(f"invalid mode: {mode}")
    words = set(mode.split(",")) if mode else set()
    kind = "bind" if source.startswith("/") else "volume"
    if kind == "volume" and words & PROPAGATION:
        raise errors.InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
            "field BindOptions must not be specified"
        )
    try:
        clean = _destination(destination, kind)
        point = MountPoint(type=kind, destination=clean, mode=mode, rw="ro" not in words)
        if kind == "bind":
            point.source = posixpath.normpath(source)
            point.create_source = True
            point.propagation = next(iter(words & PROPAGATION), "")
            if "nocopy" in words:
                raise errors.InvalidArgument(f"invalid mode: {mode}")
        elif source:
            point.name, point.driver = volume_name(source), driver  # "": whoever has it
            point.mode = mode or "z"
            point.copy_up = "nocopy" not in words
        else:
            point = _anonymous(clean, driver, new_volume())
            point.mode = "z"
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f"invalid volume specification: '{text}': {error}") from None
    return point


def _valid_mode(mode: str) -> bool:
    """At most one word of each group (Docker's rule for the third part of `-v`)."""
    words = mode.split(",")
    return all(sum(word in group for word in words) <= 1 for group in _MODE_GROUPS) and all(
        any(word in group for group in _MODE_GROUPS) for word in words
    )


def volume_name(name: str) -> str:
    if not VOLUME_NAME.fullmatch(name):
        raise errors.InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    return name


def _destination(path: str, kind: str) -> str:
    prefix = f'invalid mount config for type "{kind}": '
    if not path:
        raise errors.InvalidArgument(f"{prefix}field Target must not be empty")
    if "\0" in path or "\n" in path:
        raise errors.InvalidArgument(f"{prefix}invalid mount path: {path!r}")
    if not path.startswith("/"):
        raise errors.InvalidArgument(
            f"{prefix}invalid mount path: '{path}' mount path must be absolute"
        )
    clean = posixpath.normpath(path)
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise errors.InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return clean


def _mount(
    mount: Mount, driver: str, new_volume: Callable[[], str], exists: PathExists
) -> MountPoint:
    """One `--mount` value."""
    kind = mount.type
    if kind in {"npipe", "cluster"}:
        raise errors.Unsupported(f"mounts of type {kind!r} are not there yet: {mount.target}")
    if kind not in {"bind", "volume", "tmpfs", "image"}:
        raise errors.InvalidArgument(f'invalid mount config for type "{kind}": mount type unknown')
    prefix = f'invalid mount config for type "{kind}": '
    for name, given, wanted in (
        ("BindOptions", mount.bind_options, "bind"),
        ("VolumeOptions", mount.volume_options, "volume"),
        ("TmpfsOptions", mount.tmpfs_options, "tmpfs"),
        ("ImageOptions", mount.image_options, "image"),
    ):
        if given is not None and kind != wanted:
            raise errors.InvalidArgument(f"{prefix}field {name} must not be specified")
    clean = _destination(mount.target, kind)
    if kind == "bind":
        return _bind_mount(mount, clean, exists, prefix)
    if kind == "tmpfs":
        return _tmpfs_mount(mount, clean, prefix)
    if kind == "image":
        return _image_mount(mount, clean, prefix)
    return _volume_mount(mount, clean, driver, new_volume)


def _bind_mount(mount: Mount, destination: str, exists: PathExists, prefix: str) -> MountPoint:
    if not mount.source:
        raise errors.InvalidArgument(f"{prefix}field Source must not be empty")
    if not mount.source.startswith("/"):
        raise errors.InvalidArgument(
            f"{prefix}invalid mount path: '{mount.source}' mount path must be absolute"
        )
    options = mount.bind_options
    create = bool(options and options.create_mountpoint)
    source = posixpath.normpath(mount.source)
    if not create and not exists(source):
        raise errors.InvalidArgument(f"{prefix}bind source path does not exist: {mount.source}")
    propagation = options.propagation if options else ""
    if propagation and propagation not in PROPAGATION:
        raise errors.InvalidArgument(f"{prefix}invalid propagation mode: {propagation}")
    if options and options.read_only_force_recursive and options.read_only_non_recursive:
        raise errors.InvalidArgument(
            f"{prefix}ReadOnlyForceRecursive and ReadOnlyNonRecursive exclude each other"
        )
    return MountPoint(
        type="bind",
        destination=destination,
        source=source,
        rw=not mount.read_only,
        propagation=propagation,
        create_source=create,
        recursive=not (options and options.non_recursive),
        read_only_recursive=not (options and options.read_only_non_recursive),
        force_recursive=bool(options and options.read_only_force_recursive),
    )


def _volume_mount(
    mount: Mount, destination: str, driver: str, new_volume: Callable[[], str]
) -> MountPoint:
    options = mount.volume_options
    if options and options.driver_config and options.driver_config.name:
        driver = options.driver_config.name
    point = MountPoint(
        type="volume",
        destination=destination,
        mode="z",  # as Docker tells it of a volume that asks for nothing
        name=volume_name(mount.source) if mount.source else "",
        driver=driver,  # "": whoever has it
        rw=not mount.read_only,
        copy_up=not (options and (options.no_copy or options.subpath)),
        subpath=_subpath(options.subpath) if options else "",
        labels=options.labels if options else {},
        options=options.driver_config.options if options and options.driver_config else {},
    )
    if not point.name:
        point.name, point.anonymous = new_volume(), True
    return point


def _image_mount(mount: Mount, destination: str, prefix: str) -> MountPoint:
    if not mount.source:
        raise errors.InvalidArgument(f"{prefix}field Source must not be empty")
    options = mount.image_options
    return MountPoint(
        type="image",
        destination=destination,
        name=mount.source,
        rw=False,
        subpath=_subpath(options.subpath, "image") if options else "",
    )


def _subpath(path: str, kind: str = "volume") -> str:
    """A path inside a volume or an image: relative, and never up."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise errors.InvalidArgument(
            f'invalid mount config for type "{kind}": subpath must be a relative path within the '
            f"{kind}: {path!r}"
        )
    return path


def _tmpfs_mount(mount: Mount, destination: str, prefix: str) -> MountPoint:
    if mount.source:
        raise errors.InvalidArgument(f"{prefix}field Source must not be specified")
    options = list(TMPFS_DEFAULTS)
    if mount.read_only:
        options.append("ro")
    given = mount.tmpfs_options
    if given and given.mode:
        if not 0 <= given.mode <= 0o7777:
            raise errors.InvalidArgument(f"{prefix}invalid mode {given.mode:o}")
        options.append(f"mode={given.mode:o}")
    if given and given.size_bytes:
        if given.size_bytes < 0:
            raise errors.InvalidArgument(f"{prefix}invalid size {given.size_bytes}")
        options.append(f"size={given.size_bytes}")
    for item in given.options if given else ():
        options = _with_option(options, "=".join(item))
    return MountPoint(
        type="tmpfs", destination=destination, rw=not mount.read_only, tmpfs_options=options
    )


def _tmpfs(destination: str, text: str) -> MountPoint:
    """One `--tmpfs` value: defaults first, later words replace their opposites."""
    clean = _destination(destination, "tmpfs")
    options = list(TMPFS_DEFAULTS)
    for word in text.split(",") if text else ():
        options = _with_option(options, word)
    return MountPoint(
        type="tmpfs", destination=clean, mode=text, rw="ro" not in options, tmpfs_options=options
    )


def _with_option(options: list[str], word: str) -> list[str]:
    key, equals, value = word.partition("=")
    if not ((key in _TMPFS_VALUES and value) if equals else key in _TMPFS_FLAGS):
        raise errors.InvalidArgument(f'invalid tmpfs option ["{word}"]')
    opposite = key.removeprefix("no") if key.startswith("no") else f"no{key}"
    if key in {"ro", "rw"}:
        opposite = "rw" if key == "ro" else "ro"
    kept = [item for item in options if item.partition("=")[0] not in {key, opposite}]
    return [*kept, word]


def _volumes_from(text: str, mounts_of: OtherMounts) -> Iterable[MountPoint]:
    """`container[:mode]`: its volumes and binds, copied without copy-up."""
    container, _, mode = text.partition(":")
    if not container:
        raise errors.InvalidArgument(f"invalid volumes-from specification: '{text}'")
    if mode and not _valid_mode(mode):
        raise errors.InvalidArgument(f"invalid mode: {mode}")
    for point in mounts_of(container):
        copy = MountPoint(**{name: getattr(point, name) for name in point.__struct_fields__})
        copy.copy_up = False
        if mode:
            copy.mode, copy.rw = mode, point.rw and "ro" not in mode.split(",")
        yield copy
