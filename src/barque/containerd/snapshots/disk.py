"""What snapshotters do on disk: measure, make durable, delete without anybody waiting."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from barque.containerd.snapshots.snapshotter import Usage
from barque.linux.fs import remove_tree, sync_filesystem

log = logging.getLogger(__name__)

BLOCK_BYTES = 512


class Trash:
    """A directory whose content is being deleted, on one thread of its own.

    What a crash left in it is deleted at the next start.
    """

    def __init__(self, directory: str, delete: Callable[[str], None] = remove_tree) -> None:
        """`delete` is given the path of what was thrown."""
        self._directory = directory
        self._delete_path = delete
        self._worker = ThreadPoolExecutor(1, "trash")
        self._closed = threading.Event()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in os.listdir(directory):
            self.then(partial(self._delete, name))

    def throw(self, path: str) -> None:
        """Move `path` (on the same file system) here; one that is gone is done."""
        name = f"{os.path.basename(path)}-{secrets.token_hex(4)}"
        try:
            os.rename(path, f"{self._directory}/{name}")
        except FileNotFoundError:
            return
        self.then(partial(self._delete, name))

    def new_directory(self, path: str) -> None:
        """`path` made, for us alone; what a crash left there is thrown."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            self.throw(path)
            os.mkdir(path, 0o700)

    def then(self, work: Callable[[], None]) -> None:
        """Do `work` when all that was thrown so far is deleted, on the same thread."""
        self._worker.submit(self._do, work)

    def wait(self) -> None:
        """Returns when all that was thrown so far is deleted."""
        self._worker.submit(lambda: None).result()

    def close(self) -> None:
        """Stop soon; what is left is deleted at the next start."""
        self._closed.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _do(self, work: Callable[[], None]) -> None:
        if not self._closed.is_set():
            work()

    def _delete(self, name: str) -> None:
        try:
            self._delete_path(f"{self._directory}/{name}")
        except OSError as error:  # something is still mounted there: the next start tries again
            log.warning("cannot delete %s/%s: %s", self._directory, name, error)


def usage_of(directory: str) -> Usage:
    """Blocks and inodes of a tree; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for found in _stats(directory):
        identity = (found.st_dev, found.st_ino)
        if identity not in seen:
            seen.add(identity)
            size += found.st_blocks * BLOCK_BYTES
    return Usage(size, len(seen))


def usage_above(directory: str, parent: str) -> Usage:
    """`usage_of` what is not in `parent` ("" for nothing) by the same inode with the same times.

    For file systems whose snapshots keep these.
    """
    if not parent:
        return usage_of(directory)
    seen = set()
    for found in _stats(parent):
        seen.add((found.st_ino, found.st_ctime_ns))
    size, counted = 0, set()
    for found in _stats(directory):
        identity = (found.st_ino, found.st_ctime_ns)
        if identity not in seen and found.st_ino not in counted:
            counted.add(found.st_ino)
            size += found.st_blocks * BLOCK_BYTES
    return Usage(size, len(counted))


def _stats(directory: str) -> Iterator[os.stat_result]:
    """Of a tree, its root first; what goes meanwhile is left out."""
    try:
        yield os.lstat(directory)
    except FileNotFoundError:
        return
    pending = [directory]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(found.st_mode):
                pending.append(entry.path)
            yield found


def sync_and_measure(directory: str) -> Usage:
    """`usage_of`, and everything on the file system of `directory` is durable."""
    usage = usage_of(directory)
    sync_filesystem(directory)
    return usage


def numbers_in(directory: str) -> set[int]:
    return {int(name) for name in os.listdir(directory) if name.isdecimal()}
