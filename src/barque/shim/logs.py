"""A container's log file: whole lines, rotated by rename, and no reason to stop the container.

A full disk, or any other failure to write, loses lines and not the container: what did not fit is
taken back, counted, and noted in the log once it can be written again.
"""

from __future__ import annotations

import os
import time

from barque.oci import document
from barque.shim import paths
from barque.shim.jsonlines import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

LOG_MODE: Final = 0o640
STDOUT: Final = 1
STDERR: Final = 2


class LogFile:
    """Appends to `path`; with `max_size` over 0 a file that has reached it becomes `path`.1, that
    one .2 and so on, `max_files` files in all."""

    def __init__(
        self, path: str, max_size: int, max_files: int, warn: Callable[[str], None]
    ) -> None:
        """Raises OSError when the file cannot be opened."""
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._warn = warn
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self.lost_lines = 0
        self._warned = False

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, LOG_MODE)

    def append(self, lines: bytes) -> None:
        """Add whole lines."""
        if self._max_size and self._size + len(lines) > self._max_size:
            for line in lines.splitlines(keepends=True):
                if self._size >= self._max_size:
                    self._rotate()
                self._write(line)
        else:
            self._write(lines)

    def _write(self, lines: bytes) -> None:
        done = 0
        try:
            while done < len(lines):
                done += os.write(self._fd, lines[done:] if done else lines)
        except OSError as error:
            self._lose(lines, done, error)
            return
        self._size += done
        self._warned = False

    def _lose(self, lines: bytes, done: int, error: OSError) -> None:
        kept = lines.rfind(b"\n", 0, done) + 1
        if done > kept:
            try:
                os.ftruncate(self._fd, self._size + kept)
            except OSError:
                kept = done
        self._size += kept
        if not self._warned:
            self._warned = True
            self._warn(f"log {self._path} cannot be written: {error.strerror}")
        self.lost_lines += lines.count(b"\n", kept)

    def _rotate(self) -> None:
        try:
            if self._max_files > 1:
                for number in range(self._max_files - 1, 0, -1):
                    older = paths.rotated(self._path, number)
                    newer = paths.rotated(self._path, number - 1) if number > 1 else self._path
                    if os.path.lexists(newer):
                        os.rename(newer, older)
            else:
                os.unlink(self._path)
            fd = self._open()
        except OSError as error:
            self._warn(f"log {self._path} cannot be rotated: {error.strerror}")
            self._size = 0  # try again after as much more
            return
        os.close(self._fd)
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def close(self) -> None:
        os.close(self._fd)


class JsonFile:
    """A log in Docker's json-file format."""

    def __init__(self, file: LogFile, attributes: dict[str, str]) -> None:
        self._file = file
        text = document.dump(attributes).decode() if attributes else ""
        self._lines = {stream: Lines(stream, text) for stream in (STDOUT, STDERR)}
        self._notes = Lines(STDERR, text)

    def write(self, stream: int, data: bytes) -> None:
        """Output of the process, as it came."""
        now = time.time_ns()
        lines = self._lines[stream].feed(data, now)
        if lines:
            if self._file.lost_lines:
                self._note(now)
            self._file.append(lines)

    def end(self, stream: int) -> None:
        """Write the unfinished line, if there is one."""
        rest = self._lines[stream].end(time.time_ns())
        if rest:
            self._file.append(rest)

    def _note(self, now: int) -> None:
        lost, self._file.lost_lines = self._file.lost_lines, 0
        text = f"[barque: {lost} lines of this log are lost: the disk was full]\n"
        self._file.append(self._notes.feed(text.encode(), now))
        if self._file.lost_lines:
            self._file.lost_lines = lost

    def close(self) -> None:
        self._file.close()
