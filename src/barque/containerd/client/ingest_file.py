"""The file of a blob under way, written by who sends the blob: no byte crosses a socket."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from barque.containerd.room import check_room
from barque.containerd.threads import in_thread
from barque.errors import DataLoss, ResourceExhausted
from barque.linux.fs import write_at


class IngestFile:
    def __init__(self, fd: int, what: str) -> None:
        self._fd, self._what = fd, what

    @classmethod
    def at(cls, path: str, what: str) -> IngestFile | None:
        """None where the file is not there for us: containerd is somewhere else."""
        try:
            return cls(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), f"content {what}")
        except OSError:
            return None

    async def write(self, parts: Sequence[bytes], offset: int) -> int:
        """All of `parts` at `offset`; how many bytes. Cancelled, it ends before it returns.

        Raises ResourceExhausted where there is no room, DataLoss for what the disk does not take.
        """
        return await in_thread(self._write, parts, offset)

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, parts: Sequence[bytes], offset: int) -> int:
        total, end = sum(map(len, parts)), offset
        check_room(self._fd, total, self._what)
        try:
            for part in parts:
                end = write_at(self._fd, part, end)
        except OSError as error:
            os.ftruncate(self._fd, offset)  # to give the blob up takes room too
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceExhausted(f"no space left on device for {self._what}") from error
            raise DataLoss(f"{self._what}: cannot be written: {error.strerror}") from error
        return total
