"""A container's log file read once, across rotations and across lives of the daemon.

The shim writes what the container says to a json-file log; what was sent of it is remembered beside
it, as the file's inode and an offset in it. So neither side waits for the other.
"""

from __future__ import annotations

import os
from pathlib import Path

READ_BYTES = 256 << 10
MAX_FILES = 100
_FLAGS = os.O_RDONLY | os.O_CLOEXEC


class Spool:
    def __init__(self, log: Path) -> None:
        self._log = str(log)
        self._mark = os.open(
            log.with_name("forwarded"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._inode, self._offset = self._remembered()
        self._fd = -1

    def read(self) -> bytes:
        """The next whole lines; b"" when there are none now. `sent` must follow each."""
        while True:
            if self._fd < 0 and not self._open():
                return b""
            data = os.pread(self._fd, READ_BYTES, self._offset)
            end = data.rfind(b"\n") + 1
            if end:
                return data[:end]
            if len(data) == READ_BYTES:  # a line that is no line of ours: left out
                return data
            if not self._next():
                return b""

    def sent(self, size: int) -> None:
        """`size` bytes more need not be read again."""
        self._offset += size
        os.pwrite(self._mark, b"%d %d\n%20s" % (self._inode, self._offset, b""), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        os.close(self._mark)
        self._fd = self._mark = -1

    def _remembered(self) -> tuple[int, int]:
        words = os.pread(self._mark, 64, 0).split()
        if len(words) == 2 and all(word.isdigit() for word in words):
            return int(words[0]), int(words[1])
        return 0, 0

    def _files(self) -> list[tuple[int, str]]:
        """(inode, name), newest first."""
        found = []
        for number in range(MAX_FILES):
            name = f"{self._log}.{number}" if number else self._log
            try:
                found.append((os.stat(name).st_ino, name))
            except FileNotFoundError:
                if number:
                    break
        return found

    def _open(self) -> bool:
        """The file that was read last, or the oldest one when that is gone."""
        files = self._files()
        if not files:
            return False
        name = next((name for inode, name in files if inode == self._inode), "")
        if not name:
            name, self._offset = files[-1][1], 0
        return self._use(name)

    def _next(self) -> bool:
        """Whether another file follows the one that was read to its end."""
        files = self._files()
        inodes = [inode for inode, _ in files]
        if self._inode not in inodes:
            following = files[-1][1] if files else ""
        else:
            at = inodes.index(self._inode)
            following = files[at - 1][1] if at > 0 else ""
        if not following:
            return False
        # once more: it may have been written to between our read and its rotation
        if os.fstat(self._fd).st_size > self._offset and os.pread(
            self._fd, READ_BYTES, self._offset
        ).endswith(b"\n"):
            return True
        os.close(self._fd)
        self._fd, self._offset = -1, 0
        return self._use(following)

    def _use(self, name: str) -> bool:
        try:
            self._fd = os.open(name, _FLAGS)
        except FileNotFoundError:
            return False
        self._inode = os.fstat(self._fd).st_ino
        return True
