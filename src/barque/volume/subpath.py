"""A part of a volume as a mount of its own: resolved inside the volume, bound by descriptor.

Whoever writes in the volume may swap a directory for a link at any time; what was opened is what is
bound, so the container gets that and nothing outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from barque import errors
from barque.linux import id_mapped
from barque.linux.fs import open_in_root
from barque.linux.mount import (
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    OPEN_TREE_CLONE,
    UMOUNT_NOFOLLOW,
    mount,
    move_mount_to,
    open_tree,
    umount2,
)

AT_EMPTY_PATH = 0x1000


def check(subpath: str) -> str:
    """A relative path that stays below. Raises InvalidArgument."""
    if subpath.startswith("/") or ".." in subpath.split("/") or "\0" in subpath:
        raise errors.InvalidArgument(f"invalid volume subpath: {subpath!r}")
    return subpath


def bind(volume: str, subpath: str, target: Path) -> None:
    """Mount `subpath` of the directory `volume` on `target`, which is made. Raises NotFound."""
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _open(root, subpath)
    finally:
        os.close(root)
    try:
        if stat.S_ISDIR(os.fstat(found).st_mode):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.touch(mode=0o600)
        tree = open_tree("", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE, found)
        try:
            move_mount_to(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(found)


def _open(root: int, subpath: str) -> int:
    try:
        return open_in_root(root, check(subpath), os.O_PATH)
    except OSError as error:
        raise errors.NotFound(
            f"cannot access path {subpath}: {(error.strerror or str(error)).lower()}"
        ) from error


def merge(layers: Sequence[str], target: Path, namespace: str = "") -> None:
    """Mount `layers` (directories, top first) read-only on the directory `target`, which is made.

    With the path of a user `namespace` their ids are those of that namespace.
    By descriptors: paths of many layers would not fit the page that options are passed in.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if namespace:
        _merge_mapped(layers, target, namespace)
    elif len(layers) == 1:
        mount(layers[0], target, flags=MS_BIND)
        mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    else:
        _merge_plain(layers, target)


def _merge_mapped(layers: Sequence[str], target: Path, namespace: str) -> None:
    users = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if len(layers) == 1:
            detached = id_mapped.mapped_tree(layers[0], users)
        else:
            detached = id_mapped.overlay([*layers], [], users, MOUNT_ATTR_RDONLY, str(target))
    finally:
        os.close(users)
    try:
        move_mount_to(detached, target)
    finally:
        os.close(detached)
    mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def _merge_plain(layers: Sequence[str], target: Path) -> None:
    opened: list[int] = []
    try:
        for layer in layers:
            opened.append(os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        lower = ":".join(f"/proc/self/fd/{fd}" for fd in opened)
        mount("overlay", target, "overlay", MS_RDONLY, f"lowerdir={lower}")
    finally:
        for fd in opened:
            os.close(fd)


def unbind(target: Path) -> None:
    """Undo `bind`. Safe to run twice."""
    try:
        while True:
            umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
    except OSError:
        pass
    try:
        if target.is_dir():
            target.rmdir()
        else:
            target.unlink(missing_ok=True)
    except OSError:
        pass
