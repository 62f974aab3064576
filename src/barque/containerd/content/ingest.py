"""A blob under way: a file that grows, and the digest of what is in it."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from barque.containerd.content.growth import Growth
from barque.containerd.room import check_room
from barque.containerd.threads import hashing
from barque.errors import DataLoss, NotFound
from barque.linux.fs import sync_directory, write_at

CHUNK_BYTES = 1 << 20


class Ingest:
    """The bytes of one ref. Methods block on the disk: call them in a thread when they may be long.

    `offset` bytes are written; `updated_ns` is when the last of them was. One that is `aborted`
    lost its row and its file while it was written; the writer's descriptor is there.
    """

    def __init__(
        self,
        namespace: str,
        ref: str,
        number: int,
        total: int,
        expected: str,
        started_ns: int,
        path: str,
    ) -> None:
        self.namespace = namespace
        self.ref = ref
        self.number = number
        self.total = total
        self.expected = expected
        self.started_ns = started_ns
        self._path = path
        self._fd = -1
        self._hash: Any = None
        self._algorithm = expected.partition(":")[0] or "sha256"
        self.offset, self.updated_ns = _size_and_time(path, started_ns)
        self.aborted = False
        self.growth = Growth(self.offset)

    @property
    def path(self) -> str:
        return self._path

    def open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o644)

    def check_room(self) -> None:
        """Raises ResourceExhausted where what is to come, as far as that is known, has no room."""
        if self.total > self.offset:
            check_room(self._fd, self.total - self.offset, f"content {self.expected or self.ref}")

    def close(self) -> None:
        """What is written stays as it is, and as old."""
        if self._fd >= 0 and not self.aborted:
            os.utime(self._fd, ns=(self.updated_ns, self.updated_ns))  # the kernel's are coarse
        self.abandon()

    def abandon(self) -> None:
        """As `close`, of a file that is another's from now on, or gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.growth.give_up()

    def reader(self) -> int:
        """A descriptor of its own to read it by; the caller closes it."""
        return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def needs_catching_up(self) -> bool:
        """Whether bytes of an earlier writer must still be hashed, which takes time."""
        return self._hash is None and self.offset > 0

    def catch_up(self) -> None:
        """Hash what an earlier writer left."""
        if self._hash is not None:
            return
        self._hash = hashlib.new(self._algorithm, usedforsecurity=False)
        self._hash_file(0, self.offset)

    def _hash_file(self, at: int, end: int) -> None:
        buffer = memoryview(bytearray(min(CHUNK_BYTES, end - at)))
        while at < end:
            count = os.preadv(self._fd, [buffer[: end - at]], at)
            if not count:
                self._hash = None
                raise DataLoss(f"ingest {self.ref} is shorter than it was")
            self._hash.update(buffer[:count])
            at += count

    def reaches(self, size: int) -> bool:
        """Whether its file has `size` bytes: a writer may put them there itself."""
        return os.fstat(self._fd).st_size >= size

    def absorb(self, size: int) -> None:
        """Append what its writer has put into the file itself, up to `size`."""
        self.catch_up()
        self.growth.grew(size)
        self._hash_file(self.offset, size)
        self._reached(size)

    def write(self, data: bytes) -> None:
        """Append. A write that fails in part is undone, so `offset` stays true."""
        self.catch_up()
        check_room(self._fd, len(data), f"content {self.expected or self.ref}")
        hashed = hashing(self._hash, data)
        try:
            write_at(self._fd, data, self.offset)
        except OSError:
            self._hash = None  # it has bytes that the file has not
            os.ftruncate(self._fd, self.offset)
            raise
        hashed.result()
        self._reached(self.offset + len(data))
        self.growth.grew(self.offset)

    def gone(self) -> NotFound:
        return NotFound(f"ingest ref {self.ref}: aborted while it was written: not found")

    def restart(self) -> None:
        """Drop everything written."""
        self.growth.give_up()
        self.growth = Growth(0)
        os.ftruncate(self._fd, 0)
        self._reached(0)
        self._hash = hashlib.new(self._algorithm, usedforsecurity=False)

    def _reached(self, offset: int) -> None:
        self.offset, self.updated_ns = offset, time.time_ns()

    def digest(self) -> str:
        self.catch_up()
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def verify(self, size: int, expected: str) -> str:
        """The digest. Raises DataLoss when size (0: any) or digest ("": any) is another."""
        if size > 0 and size != self.offset:
            raise DataLoss(
                f"unexpected commit size {self.offset}, expected {size}: failed precondition"
            )
        digest = self.digest()
        if expected and digest != expected:
            raise DataLoss(
                f"unexpected commit digest {digest}, expected {expected}: failed precondition"
            )
        self.growth.complete(digest)
        return digest

    def keep(self, target: str) -> os.stat_result:
        """Make the verified file the blob at `target`, durable when this returns; its facts.

        Raises NotFound when it was aborted meanwhile.
        """
        os.fchmod(self._fd, 0o444)
        os.fsync(self._fd)
        directory = target.rpartition("/")[0]
        os.makedirs(directory, mode=0o755, exist_ok=True)
        try:
            os.rename(self._path, target)
        except FileNotFoundError:
            raise self.gone() from None
        sync_directory(directory)
        return os.fstat(self._fd)


def _size_and_time(path: str, otherwise_ns: int) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, otherwise_ns
    return found.st_size, found.st_mtime_ns
