"""The stdio socket's protocol, without I/O. docs/boundaries.md section 4.

client                                   shim
  {"stdin": bool, "stdout": bool, "stderr": bool, "lossy": bool}\\n  ->
                                     <-  {"ok": true, "tty": bool}\\n  or  {"error": "..."}\\n
  bytes for standard input  ->
                                     <-  Docker's frames, or raw bytes of a terminal
"""

from __future__ import annotations

import struct

from barque.errors import InvalidArgument
from barque.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

HELLO_BYTES_MAX: Final = 4096
KEYS: Final = ("stdin", "stdout", "stderr", "lossy")
FRAME: Final = struct.Struct(">BxxxI")


class Hello:
    """What a client asked for."""

    __slots__ = KEYS

    def __init__(self, stdin: bool, stdout: bool, stderr: bool, lossy: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.lossy = lossy

    def wants(self, stream: int) -> bool:
        return self.stdout if stream == 1 else self.stderr


class Opening:
    """Collects a client's first line."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> tuple[Hello, bytes] | None:
        """The hello and the bytes after it, or None: more is needed. Raises InvalidArgument."""
        self._data += data
        line, newline, rest = self._data.partition(b"\n")
        if len(line) > HELLO_BYTES_MAX:
            raise InvalidArgument("first line is too long")
        if not newline:
            return None
        return parse(line), rest


def parse(line: bytes) -> Hello:
    """A client's first line, without its newline. Raises InvalidArgument."""
    try:
        value: Any = document.parse(line)
    except ValueError as error:
        raise InvalidArgument("first line is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidArgument("first line is not an object")
    for key, item in value.items():
        if key not in KEYS:
            raise InvalidArgument(f"unknown key {key!r}")
        if not isinstance(item, bool):
            raise InvalidArgument(f"{key} is not a boolean")
    return Hello(*[value.get(key, False) for key in KEYS])


def accepted(tty: bool) -> bytes:
    return b'{"ok": true, "tty": %b}\n' % (b"true" if tty else b"false")


def refused(reason: str) -> bytes:
    return document.dump({"error": reason}) + b"\n"


def frame(stream: int, data: bytes) -> bytes:
    """One of Docker's frames."""
    return FRAME.pack(stream, len(data)) + data
