"""A container's log file: whole records, rotated by rename, and no reason to stop the container.

A full disk, or any other failure to write, loses lines and not the container: what did not fit is
taken back, counted, and noted in the log once it can be written again.
"""

from __future__ import annotations

import os
import time

from barque.oci import document
from barque.shim import compress, paths
from barque.shim.framing import Newlines, Sizes
from barque.shim.jsonlines import Lines
from barque.shim.locallog import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Pending

LOG_MODE: Final = 0o640
OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
STDOUT: Final = 1
STDERR: Final = 2


class LogFile:
    """Appends to `path`; with `max_size` over 0 a file that has reached it becomes `path`.1, that
    one .2 and so on, `max_files` files in all; `packed`: the older ones by gzip, `path`.1.gz."""

    def __init__(
        self,
        path: str,
        max_size: int,
        max_files: int,
        warn: Callable[[str], None],
        framing: Newlines | Sizes | None = None,
        *,
        packed: bool = False,
        fd: int = -1,
    ) -> None:
        """Raises OSError when the file cannot be opened. `fd`: it is open already."""
        self._path = path
        self._max_size = max_size
        self._bound = max_size  # of this file: more, where it could not be rotated
        self._max_files = max_files
        self._warn = warn
        self._framing = framing or Newlines()
        self._packed = packed and max_files > 1
        self._packer = 0
        self._fd = self._open() if fd < 0 else fd
        self._size = os.fstat(self._fd).st_size
        self._torn = False  # after `_size` there may be the beginning of a record
        self.lost_lines = 0
        self.lost_to = ""  # the failure that they are lost to

    def _open(self) -> int:
        return os.open(self._path, OPEN, LOG_MODE)

    def append(self, records: bytes) -> None:
        """Add whole records."""
        while self._max_size and self._size + len(records) > self._bound and records:
            if self._size >= self._bound:
                self._rotate()
            cut = self._framing.until(records, self._bound - self._size)
            self._write(records[:cut])
            records = records[cut:]
        if records:
            self._write(records)

    def _write(self, records: bytes) -> None:
        done = 0
        try:
            self._mend()
            while done < len(records):
                done += os.write(self._fd, records[done:] if done else records)
        except OSError as error:
            self._lose(records, done, error)
            return
        self._size += done
        if not self.lost_lines:  # else that is still to be noted
            self.lost_to = ""

    def _lose(self, records: bytes, done: int, error: OSError) -> None:
        kept = self._framing.within(records, done)
        self._size += kept
        self._torn = self._torn or done > kept
        try:
            self._mend()
        except OSError:
            pass  # before the next record
        if not self.lost_to:
            self._warn(f"log {self._path} cannot be written: {error.strerror}")
        self.lost_to = error.strerror or str(error)
        self.lost_lines += self._framing.count(records, kept)

    def _mend(self) -> None:
        """Take back what is not a whole record."""
        if self._torn:
            os.ftruncate(self._fd, self._size)
            self._torn = False

    def _rotate(self) -> None:
        """The next file is there before the old one is moved: it goes on where that fails."""
        fresh = f"{self._path}~"
        try:
            fd = os.open(fresh, OPEN | os.O_TRUNC, LOG_MODE)
            try:
                if self._max_files > 1:
                    compress.wait(self._packer)
                    self._shift()
                os.rename(fresh, self._path)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            self._warn(f"log {self._path} cannot be rotated: {error.strerror}")
            self._bound = self._size + self._max_size  # try again after as much more
            return
        os.close(self._fd)
        self._fd, self._size, self._bound, self._torn = fd, 0, self._max_size, False
        if self._packed:
            self._packer = compress.start(paths.rotated(self._path, 1))

    def _shift(self) -> None:
        """Each file becomes the next older one, in the form it has; the oldest goes."""
        for number in range(self._max_files - 1, 0, -1):
            older = paths.rotated(self._path, number)
            newer = paths.rotated(self._path, number - 1) if number > 1 else self._path
            if os.path.lexists(newer):
                _unlink(paths.packed(older))
                os.rename(newer, older)
            elif number > 1 and os.path.lexists(paths.packed(newer)):
                _unlink(older)
                os.rename(paths.packed(newer), paths.packed(older))

    @property
    def at_rest(self) -> bool:
        """Whether its descriptor is all of it: nothing is lost that has to be told."""
        return not self.lost_lines and not self.lost_to

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


def _unlink(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


class OutputLog:
    """A process's output in a log file."""

    def __init__(self, file: LogFile, make: Callable[[int], Lines | Records]) -> None:
        """`make`: what encodes the lines of a stream."""
        self._file = file
        self._streams = {stream: make(stream) for stream in (STDOUT, STDERR)}
        self._notes = make(STDERR)

    def write(self, stream: int, data: bytes, now_ns: int = 0) -> None:
        """Output of the process, as it came; `now_ns`: when, if not now."""
        records = self._streams[stream].feed(data, now_ns or time.time_ns())
        if records:
            self._append(records)

    def end(self, stream: int, now_ns: int = 0) -> None:
        """Write the unfinished line, if there is one."""
        rest = self._streams[stream].end(now_ns or time.time_ns())
        if rest or self._file.lost_lines:
            self._append(rest)

    def _append(self, records: bytes) -> None:
        if lost := self._file.lost_lines:
            self._file.lost_lines = 0
            self.note(lost, self._file.lost_to)
            if self._file.lost_lines:
                self._file.lost_lines = lost
        self._file.append(records)

    def note(self, lost: int, why: str) -> None:
        """Say in the log itself what is not in it."""
        text = f"[barque: {lost} lines of this log are lost: {why}]\n"
        self._file.append(self._notes.feed(text.encode(), time.time_ns()))

    def save(self) -> dict[str, Any] | None:
        """What `restore` wants; None: not now."""
        rests = {stream: lines.save() for stream, lines in self._streams.items()}
        if None in rests.values() or not self._file.at_rest:
            return None
        return {"fd": self._file.fileno(), "rests": rests}

    def restore(self, saved: dict[str, Any]) -> None:
        for stream, rest in saved["rests"].items():
            self._streams[stream].restore(rest)

    def settled(self) -> Pending | None:
        """What to wait for until all that was taken so far is written; None for nothing."""
        return None

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def json_file(
    path: str,
    max_size: int,
    max_files: int,
    attributes: dict[str, str],
    warn: Callable[[str], None],
    *,
    packed: bool = False,
    fd: int = -1,
) -> OutputLog:
    """A log in Docker's json-file format. Raises OSError when the file cannot be opened."""
    file = LogFile(path, max_size, max_files, warn, packed=packed, fd=fd)
    text = document.dump(attributes).decode() if attributes else ""
    return OutputLog(file, lambda stream: Lines(stream, text))


def local(
    path: str,
    max_size: int,
    max_files: int,
    warn: Callable[[str], None],
    *,
    packed: bool = False,
    fd: int = -1,
) -> OutputLog:
    """A log in the format of Docker's `local` driver. Raises OSError when it cannot be opened."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    file = LogFile(path, max_size, max_files, warn, Sizes(), packed=packed, fd=fd)
    return OutputLog(file, Records)
