"""Docker's json-file log lines from a process's output. No I/O.

Source: moby's json-file driver as its files are: one object a line, in this order,
`{"log":"TEXT\\n","stream":"stdout","attrs":{...},"time":"2024-01-02T15:04:05.123456789Z"}`; a line
over 16 KiB is cut into parts whose text does not end in a newline; so is text at the end without
one. Bytes that are not UTF-8 become U+FFFD, one each; the characters that Go's encoder escapes are
escaped.

A chunk of output becomes lines with a handful of calls that run at C speed over the whole chunk:
what escapes leave of newlines becomes the tail of one line and the head of the next.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LINE_BYTES_MAX: Final = 16 * 1024
STREAMS: Final = {1: "stdout", 2: "stderr"}
HEAD: Final = b'{"log":"'
# What is escaped rarely; carriage returns and tabs are handled apart, newlines by the caller.
RARE: Final = bytes(code for code in range(0x20) if code not in b"\n\r\t")
ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), *b"<>&", 0x2028, 0x2029)},
    **{0xDC00 + byte: "\\ufffd" for byte in range(0x80, 0x100)},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\n"): "\n",
    ord("\r"): "\\r",
}
LINE_SEPARATORS: Final = (b"\xe2\x80\xa8", b"\xe2\x80\xa9")


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with as many digits of the second as are not zero."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    t = time.gmtime(seconds)
    text = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{text}.{rest:09}".rstrip("0") + "Z" if rest else f"{text}Z"


def escape(data: bytes) -> bytes:
    """The inside of a JSON string for `data`, but for its newlines, which stay."""
    if len(data.translate(None, RARE)) != len(data) or not _plain(data):
        return data.decode("utf-8", "surrogateescape").translate(ESCAPES).encode()
    data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    data = data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return data.replace(b"\t", b"\\u0009").replace(b"\r", b"\\r")


def _plain(data: bytes) -> bool:
    """Whether nothing beyond ASCII needs an escape."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not any(separator in data for separator in LINE_SEPARATORS)


def _has_long_line(data: bytes) -> bool:
    """Whether a line of `data`, which ends in a newline, has `LINE_BYTES_MAX` bytes or more."""
    at = 0
    while len(data) - at > LINE_BYTES_MAX:
        newline = data.rfind(b"\n", at, at + LINE_BYTES_MAX)
        if newline < 0:
            return True
        at = newline + 1
    return False


class Lines:
    """One stream of a process; holds at most one unfinished line."""

    __slots__ = ("_middle", "_rest")

    def __init__(self, stream: int, attributes: str) -> None:
        """`attributes`: the JSON object for `attrs`, or empty for none."""
        extra = f',"attrs":{attributes}' if attributes else ""
        self._middle = f'","stream":"{STREAMS[stream]}"{extra},"time":"'
        self._rest = b""

    def save(self) -> bytes | None:
        """The unfinished line."""
        return self._rest

    def restore(self, rest: bytes) -> None:
        self._rest = rest

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Whole log lines for what `data` completes, all with the one time."""
        cut = data.rfind(b"\n") + 1
        if not cut and len(self._rest) + len(data) < LINE_BYTES_MAX:
            self._rest += data
            return b""
        whole = self._rest + data[:cut] if cut else b""
        self._rest = data[cut:] if cut else self._rest + data
        tail = self._tail(now_ns)
        out = self._whole(whole, tail) if whole else b""
        while len(self._rest) >= LINE_BYTES_MAX:
            out += self._part(self._rest[:LINE_BYTES_MAX], tail)
            self._rest = self._rest[LINE_BYTES_MAX:]
        return out

    def _tail(self, now_ns: int) -> bytes:
        return f'{self._middle}{stamp(now_ns)}"}}\n'.encode()

    def _whole(self, data: bytes, tail: bytes) -> bytes:
        """`data` ends in a newline."""
        if _has_long_line(data):
            return b"".join([self._cut(line, tail) for line in data[:-1].split(b"\n")])
        lines = escape(data[:-1]).replace(b"\n", b"\\n" + tail + HEAD)
        return b"".join((HEAD, lines, b"\\n", tail))

    def _cut(self, line: bytes, tail: bytes) -> bytes:
        out = b""
        while len(line) >= LINE_BYTES_MAX:
            out += self._part(line[:LINE_BYTES_MAX], tail)
            line = line[LINE_BYTES_MAX:]
        return out + self._whole(line + b"\n", tail)

    def _part(self, data: bytes, tail: bytes) -> bytes:
        return b"".join((HEAD, escape(data), tail))

    def end(self, now_ns: int) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        return self._part(rest, self._tail(now_ns)) if rest else b""
