"""The runtime's log: runc's lines, as text on stderr or as JSON in the file its caller reads.

containerd's shim takes the last JSON line of level error as the reason of a failure.
"""

from __future__ import annotations

import os
import time

from barque.errors import InvalidArgument
from barque.linux.fs import write_all
from barque.oci.document import dump

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """`path` empty: standard error."""

    __slots__ = ("as_json", "debugging", "path")

    def __init__(self, path: str = "", *, as_json: bool = False, debugging: bool = False) -> None:
        self.path = path
        self.as_json = as_json
        self.debugging = debugging

    def begin(self) -> None:
        """Make the file, so that a command that could not tell of its failure does nothing."""
        if not self.path:
            return
        try:
            os.close(self._open())
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f"open {self.path}: {text}") from error

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def failure(self, message: str) -> None:
        """The line a command ends with; on standard error too when the log is elsewhere."""
        try:
            self._write("error", message)
        except OSError as error:
            message = f"{message} (log {self.path}: {error.strerror})"
            write_all(2, f"{message}\n".encode(errors="replace"))
            return
        if self.path:
            write_all(2, f"{message}\n".encode(errors="replace"))

    def _write(self, level: str, message: str) -> None:
        line = self.line(level, message, time.time())
        if not self.path:
            write_all(2, line)
            return
        fd = self._open()
        try:
            write_all(fd, line)
        finally:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def line(self, level: str, message: str, now: float) -> bytes:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        message = message.encode(errors="replace").decode()
        if self.as_json:
            return dump({"level": level, "msg": message, "time": stamp}) + b"\n"
        return b'time="%s" level=%s msg=%s\n' % (stamp.encode(), level.encode(), dump(message))


def reason(error: OSError) -> str:
    """An OSError as the line's end: "mount /x: no such device"."""
    text = error.strerror or str(error)
    number = error.errno
    if number is not None:
        plain = os.strerror(number)
        text = text.replace(plain, plain[:1].lower() + plain[1:])
    if error.filename is None:
        return text
    call, colon, rest = text.partition(": ")
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return f"{call} {name}: {rest}" if colon else f"{name}: {text}"
