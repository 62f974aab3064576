"""What snapshotters do on disk: measure, make durable, delete without anybody waiting."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

from barque.containerd.snapshots.snapshotter import Usage
from barque.linux.fs import remove_tree, sync_filesystem

log = logging.getLogger(__name__)

BLOCK_BYTES = 512


class Trash:
    """A directory whose content is being deleted, on one thread of its own.

    What a crash left in it is deleted at the next start.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._worker = ThreadPoolExecutor(1, "trash")
        self._closed = threading.Event()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in os.listdir(directory):
            self._worker.submit(self._delete, name)

    def throw(self, path: str) -> None:
        """Move `path` (on the same file system) here; one that is gone is done."""
        name = f"{os.path.basename(path)}-{secrets.token_hex(4)}"
        try:
            os.rename(path, f"{self._directory}/{name}")
        except FileNotFoundError:
            return
        self._worker.submit(self._delete, name)

    def wait(self) -> None:
        """Returns when all that was thrown so far is deleted."""
        self._worker.submit(lambda: None).result()

    def close(self) -> None:
        """Stop soon; what is left is deleted at the next start."""
        self._closed.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _delete(self, name: str) -> None:
        if self._closed.is_set():
            return
        try:
            remove_tree(f"{self._directory}/{name}")
        except OSError as error:  # something is still mounted there: the next start tries again
            log.warning("cannot delete %s/%s: %s", self._directory, name, error)


def usage_of(directory: str) -> Usage:
    """Blocks and inodes of a tree; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    pending = [directory]
    while pending:
        path = pending.pop()
        try:
            entries = list(os.scandir(path))
            size += _count(os.lstat(path), seen)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(found.st_mode):
                pending.append(entry.path)
            else:
                size += _count(found, seen)
    return Usage(size, len(seen))


def sync_and_measure(directory: str) -> Usage:
    """`usage_of`, and everything on the file system of `directory` is durable."""
    usage = usage_of(directory)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)
    return usage


def numbers_in(directory: str) -> set[int]:
    return {int(name) for name in os.listdir(directory) if name.isdecimal()}


def _count(found: os.stat_result, seen: set[tuple[int, int]]) -> int:
    identity = (found.st_dev, found.st_ino)
    if identity in seen:
        return 0
    seen.add(identity)
    return found.st_blocks * BLOCK_BYTES
