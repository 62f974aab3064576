"""The mounts that make a container's root filesystem, as containerd's snapshotters name them.

Source: containerd's mount package as its requests show it (api/types/mount.proto), mount(8) for the
options. A snapshotter's mounts are trusted: they come from containerd, not from the image.
"""

from __future__ import annotations

import errno
import os

from barque.errors import BarqueError
from barque.linux import id_mapped, loop_device
from barque.linux import mount as m
from barque.oci.id_maps import IdMaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

DATA_BYTES_MAX: Final = 4095  # the kernel copies one page, with its zero byte
PROPAGATION: Final = {
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "private": m.MS_PRIVATE,
    "unbindable": m.MS_UNBINDABLE,
}
SET: Final = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "sync": m.MS_SYNCHRONOUS,
    "remount": m.MS_REMOUNT,
    "mand": m.MS_MANDLOCK,
    "dirsync": m.MS_DIRSYNC,
    "noatime": m.MS_NOATIME,
    "nodiratime": m.MS_NODIRATIME,
    "bind": m.MS_BIND,
    "rbind": m.MS_BIND | m.MS_REC,
    "relatime": m.MS_RELATIME,
    "strictatime": m.MS_STRICTATIME,
}
CLEAR: Final = {
    "rw": m.MS_RDONLY,
    "suid": m.MS_NOSUID,
    "dev": m.MS_NODEV,
    "exec": m.MS_NOEXEC,
    "async": m.MS_SYNCHRONOUS,
    "nomand": m.MS_MANDLOCK,
    "atime": m.MS_NOATIME,
    "diratime": m.MS_NODIRATIME,
    "norelatime": m.MS_RELATIME,
    "nostrictatime": m.MS_STRICTATIME,
}
# What a bind mount takes only by a second call.
BIND_SECOND: Final = m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC | m.MS_NOATIME
UNMOUNTS_MAX: Final = 64
ATTRIBUTES: Final = {
    m.MS_RDONLY: m.MOUNT_ATTR_RDONLY,
    m.MS_NOSUID: m.MOUNT_ATTR_NOSUID,
    m.MS_NODEV: m.MOUNT_ATTR_NODEV,
    m.MS_NOEXEC: m.MOUNT_ATTR_NOEXEC,
    m.MS_NOATIME: m.MOUNT_ATTR_NOATIME,
    m.MS_NODIRATIME: m.MOUNT_ATTR_NODIRATIME,
    m.MS_STRICTATIME: m.MOUNT_ATTR_STRICTATIME,
}


class Options:
    """fstab-style options, sorted: flags of mount(2), propagation, and data for the filesystem."""

    __slots__ = ("data", "flags", "ids", "loop", "propagation")

    def __init__(self, options: list[str]) -> None:
        self.flags = 0
        self.propagation = 0
        self.loop = False
        self.data: list[str] = []
        self.ids = ["", ""]
        for option in options:
            recursive = m.MS_REC if option.startswith("r") else 0
            name = option[1:] if recursive else option
            if option in SET:
                self.flags |= SET[option]
            elif option in CLEAR:
                self.flags &= ~CLEAR[option]
            elif option in PROPAGATION:
                self.propagation = PROPAGATION[option]
            elif recursive and name in PROPAGATION:
                self.propagation = PROPAGATION[name] | recursive
            elif option == "loop":
                self.loop = True
            elif option.startswith("uidmap="):
                self.ids[0] = option[7:]
            elif option.startswith("gidmap="):
                self.ids[1] = option[7:]
            elif option != "defaults":
                self.data.append(option)


def mount(entry: dict[str, Any], target: str) -> None:
    """Do one mount of a request on `target`. Raises BarqueError that names it."""
    options = Options(entry["options"])
    kind = entry["type"]
    try:
        if any(options.ids):
            _mount_mapped(entry["source"], target, kind, options)
        elif kind == "overlay":
            _mount_overlay(entry["source"] or kind, target, options)
        elif options.loop:
            _mount_file(entry["source"], target, kind, options)
        else:
            data = ",".join(options.data)
            m.mount(entry["source"], target, kind, options.flags, data or None)
        if options.flags & m.MS_BIND and options.flags & BIND_SECOND:
            m.mount(None, target, None, options.flags | m.MS_REMOUNT)
        if options.propagation:
            m.mount(None, target, None, options.propagation)
    except (OSError, ValueError) as error:
        raise BarqueError(
            f"failed to mount rootfs component {kind} {entry['source']!r}: {error}"
        ) from error


def _mount_file(source: str, target: str, kind: str, options: Options) -> None:
    """The device goes with the mount, which holds it once it is there."""
    fd, device = loop_device.attach(source, read_only=bool(options.flags & m.MS_RDONLY))
    try:
        m.mount(device, target, kind, options.flags, ",".join(options.data) or None)
    finally:
        os.close(fd)


def _mount_mapped(source: str, target: str, kind: str, options: Options) -> None:
    """An overlay with its lower layers mapped, anything else as a whole. containerd, core/mount."""
    ids = IdMaps(*options.ids)
    namespace = id_mapped.new_user_namespace(ids.uids.lines(), ids.gids.lines())
    try:
        detached = _detached(source, target, kind, options, namespace)
    finally:
        os.close(namespace)
    try:
        m.move_mount_to(detached, target)
    finally:
        os.close(detached)


def _detached(source: str, target: str, kind: str, options: Options, namespace: int) -> int:
    if options.flags & m.MS_BIND:
        recursive = bool(options.flags & m.MS_REC)
        return id_mapped.mapped_tree(source, namespace, recursive=recursive)
    attributes = attributes_of(options.flags)
    if kind == "overlay":
        lower = next((o for o in options.data if o.startswith("lowerdir=")), "lowerdir=")
        rest = [option for option in options.data if option is not lower]
        layers = lower.removeprefix("lowerdir=").split(":")
        return id_mapped.overlay(layers, rest, namespace, attributes, target)
    if options.loop:
        raise BarqueError("a loop device cannot have its ids mapped")
    wanted: dict[str, str | None] = {"source": source}
    for option in options.data:
        key, equals, value = option.partition("=")
        wanted[key] = value if equals else None
    if options.flags & m.MS_RDONLY:
        wanted["ro"] = None
    detached = m.new_filesystem(kind, wanted, attributes)
    try:
        id_mapped.map_ids(detached, namespace)
    except BaseException:
        os.close(detached)
        raise
    return detached


def attributes_of(flags: int) -> int:
    """MS_* of a mount as MOUNT_ATTR_*. Raises BarqueError for what is not a mount's own."""
    found = 0
    for flag, attribute in ATTRIBUTES.items():
        if flags & flag:
            found |= attribute
            flags &= ~flag
    if flags & ~m.MS_RELATIME:
        raise BarqueError(f"mount flags {flags:#x} do not go with mapped ids")
    return found


def _mount_overlay(source: str, target: str, options: Options) -> None:
    """Layers beyond what one page of options holds are named relative to their common directory."""
    data = ",".join(options.data)
    if len(data.encode()) <= DATA_BYTES_MAX:
        m.mount(source, target, "overlay", options.flags, data)
        return
    base, short = shorten(options.data)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(base)
        m.mount(source, target, "overlay", options.flags, short)
    finally:
        os.fchdir(here)
        os.close(here)


def shorten(options: list[str]) -> tuple[str, str]:
    """The common directory of all lower layers, and the options with layers relative to it.

    Raises BarqueError when they are still too long.
    """
    lower = next((o for o in options if o.startswith("lowerdir=")), "lowerdir=")
    layers = lower.removeprefix("lowerdir=").split(":")
    base = os.path.commonpath(layers) if all(layers) else "/"
    if base in layers:
        base = os.path.dirname(base)
    relative = "lowerdir=" + ":".join([os.path.relpath(layer, base) for layer in layers])
    data = ",".join([relative if option is lower else option for option in options])
    if len(data.encode()) > DATA_BYTES_MAX:
        raise BarqueError(f"overlay of {len(layers)} layers: options are too long for the kernel")
    return base, data


def mount_all(entries: list[dict[str, Any]], target: str) -> None:
    """Do a request's mounts in order; after a failure none is left."""
    if not entries:
        return
    os.makedirs(target, mode=0o711, exist_ok=True)
    done = 0
    try:
        for entry in entries:
            if entry["target"]:
                place = f"{target}/{entry['target'].lstrip('/')}"
                if os.path.realpath(place) != os.path.normpath(place):
                    raise BarqueError(f"mount target {entry['target']!r} leads elsewhere")
                mount(entry, place)
            else:
                mount(entry, target)
            done += 1
    except BaseException:
        if done:
            unmount(target)
        raise


def unmount(target: str) -> None:
    """Take everything mounted at `target` away, lazily. Nothing mounted is fine."""
    for _ in range(UNMOUNTS_MAX):
        try:
            m.umount2(target, m.MNT_DETACH | m.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def may_linger(entries: list[dict[str, Any]]) -> bool:
    """Whether another may have these mounts again while the last of them is still being done: so it
    is with an overlay that does not lock its directories (the kernel's index)."""
    kinds = [entry["type"] for entry in entries]
    return kinds == ["overlay"] and "index=off" in entries[0]["options"]


def hold(target: str) -> int:
    """What is mounted at `target` stays until this descriptor is closed, wherever it is unmounted;
    -1: there are no descriptors.

    With its end an overlay writes out the whole file system below it, whoever wrote to that.
    """
    try:
        return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
