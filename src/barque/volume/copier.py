"""The copier: a process of its own that copies an image's directory into a volume.

It mounts the image's layers in a mount namespace that dies with it, so nothing is left mounted
however it ends, and resolves the path as inside the image. Standard input is one line of JSON:
`layers` (top first), `path`, `target`; `ids` where those on the disk are others; with `held`, it
ends when its standard input does, at whatever point: who started it is gone, and what was copied is
to be deleted. Exit code 0: copied; 3: the image has no such directory; else failed, the reason is
the last line of standard error.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence

from barque import errors
from barque.linux import id_mapped
from barque.linux.fs import open_in_root
from barque.linux.mount import MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, mount
from barque.linux.namespaces import CLONE_NEWNS, unshare
from barque.volume.copytree import copy_tree

COPIED, FAILED, ABSENT = 0, 2, 3
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def main(arguments: list[str]) -> int:
    request = json.loads(sys.stdin.buffer.readline())
    try:
        target = _target(request["target"], request.get("ids"))
    except (OSError, errors.BarqueError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    if request.get("held"):
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        return copy(request["layers"], request["path"], target)
    except (OSError, errors.BarqueError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(FAILED)


def _target(path: str, ids: Mapping[str, str] | None) -> int:
    """The directory to copy into, open; `ids` are lines of uid_map: on the disk, and as we see it.

    For a process that has one thread.
    """
    if ids is None:
        return os.open(path, _DIRECTORY | os.O_NOFOLLOW)
    namespace = id_mapped.new_user_namespace(ids["uids"], ids["gids"])
    try:
        tree = id_mapped.mapped_tree(path, namespace)
    finally:
        os.close(namespace)
    try:
        return os.open(".", _DIRECTORY, dir_fd=tree)
    finally:
        os.close(tree)


def copy(layers: Sequence[str], path: str, target_fd: int) -> int:
    """Copy `path` of the merged `layers` into a directory. Changes our mount namespace."""
    root = _merged(layers)
    try:
        source = open_in_root(root, path, _DIRECTORY)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return ABSENT
        raise
    copy_tree(source, target_fd)
    return COPIED


def _merged(layers: Sequence[str]) -> int:
    """The root of the image, read-only, open. One layer needs no mount."""
    if len(layers) == 1:
        return os.open(layers[0], _DIRECTORY)
    unshare(CLONE_NEWNS)
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    # by descriptors: paths of many layers would not fit the page that options are passed in
    opened = [os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for layer in layers]
    options = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in opened)
    mount("overlay", layers[0], "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options)
    return os.open(layers[0], _DIRECTORY)
