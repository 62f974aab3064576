"""A container's log file read once, across rotations and across lives of the daemon.

The shim writes what the container says to a json-file log; what was sent of it is remembered beside
it: the file's inode number, how far it was read, and a checksum of its beginning, since the number
of a file that is gone soon belongs to another. So neither side waits for the other.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

from barque.daemon.containers import log_run
from barque.daemon.containers.log_run import Identity

READ_BYTES = 256 << 10
HEAD_BYTES = 64


class Spool:
    def __init__(self, log: Path) -> None:
        self._log = str(log)
        self._mark = os.open(
            log.with_name("forwarded"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._file: BinaryIO | None = None
        self._inode = self._offset = self._head = 0

    def read(self) -> bytes:
        """The next whole lines; b"" when there are none now. `sent` must follow each."""
        if self._file is None:
            self._file = self._found_again() or log_run.open_next(self._log, None)
            self._begin()
        while self._file is not None:
            data = os.pread(self._file.fileno(), READ_BYTES, self._offset)
            end = data.rfind(b"\n") + 1
            if end:
                return data[:end]
            if len(data) == READ_BYTES:  # a line that is no line of ours: left out
                return data
            if not self._next():
                break
        return b""

    def sent(self, size: int) -> None:
        """`size` bytes more need not be read again."""
        if self._file is None:
            return
        if self._offset < HEAD_BYTES:
            self._head = _head(self._file, self._offset + size)
        self._offset += size
        mark = b"%d %d %d\n%20s" % (self._inode, self._offset, self._head, b"")
        os.pwrite(self._mark, mark, 0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        os.close(self._mark)
        self._mark = -1

    def _begin(self) -> None:
        """What `_file` is known by as long as it is read."""
        if self._file is not None:
            known = log_run.identity(self._file)
            self._inode = known.source if known.source > 0 else known.inode

    def _found_again(self) -> BinaryIO | None:
        """The file that was read last, in another life."""
        words = os.pread(self._mark, 64, 0).split()
        if len(words) not in (2, 3) or not all(word.isdigit() for word in words):
            return None
        inode, offset = int(words[0]), int(words[1])
        found = None
        for file in reversed(log_run.open_files(self._log)):
            same = found is None and Identity(inode).is_now(log_run.identity(file))
            if same and (len(words) == 2 or _head(file, offset) == int(words[2])):
                found = file
            else:
                file.close()
        if found is not None:
            self._offset, self._head = offset, int(words[-1])
        return found

    def _next(self) -> bool:
        """Whether there is more to read: in a file that follows the one read to its end, or in it,
        written between our read and its rotation."""
        assert self._file is not None
        following = log_run.open_next(self._log, self._file)
        if following is None:
            return False
        if os.pread(self._file.fileno(), READ_BYTES, self._offset).endswith(b"\n"):
            following.close()
            return True
        self._file.close()
        self._file, self._offset, self._head = following, 0, 0
        self._begin()
        return True


def _head(file: BinaryIO, read: int) -> int:
    """A checksum of the beginning, as far as it was `read`."""
    return zlib.crc32(os.pread(file.fileno(), min(read, HEAD_BYTES), 0))
