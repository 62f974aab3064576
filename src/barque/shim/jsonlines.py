"""Docker's json-file log lines from a process's output. No I/O.

Source: moby's json-file driver as its files are: one object a line, in this order,
`{"log":"TEXT\\n","stream":"stdout","attrs":{...},"time":"2024-01-02T15:04:05.123456789Z"}`; a line
over 16 KiB is cut into parts whose text does not end in a newline; so is text at the end without
one. Bytes that are not UTF-8 become U+FFFD, one each; the characters that Go's encoder escapes are
escaped.

A chunk of output is turned into lines with a handful of calls that run at C speed over the whole
chunk: newlines become a character that no text has, that becomes tail and head of two lines.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LINE_BYTES_MAX: Final = 16 * 1024
STREAMS: Final = {1: "stdout", 2: "stderr"}
# A lone surrogate that decoding with `surrogateescape` cannot make (it makes DC80 to DCFF).
BREAK: Final = "\udc0a"
# What is escaped rarely; newlines, carriage returns and tabs are handled apart.
RARE: Final = bytes(code for code in range(0x20) if code not in b"\n\r\t")
RARE_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in range(0x20)},
    0x2028: "\\u2028",
    0x2029: "\\u2029",
    ord("\n"): BREAK,
    ord("\r"): "\\r",
    ord("\t"): "\\u0009",
    **{0xDC00 + byte: "\\ufffd" for byte in range(0x80, 0x100)},
}


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with as many digits of the second as are not zero."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    t = time.gmtime(seconds)
    text = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{text}.{rest:09}".rstrip("0") + "Z" if rest else f"{text}Z"


def escape(data: bytes) -> str:
    """The inside of a JSON string for `data`, where newlines are `BREAK`."""
    text = data.decode("utf-8", "surrogateescape")
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if len(data.translate(None, RARE)) != len(data) or not _plain(text):
        return text.translate(RARE_ESCAPES)
    return text.replace("\t", "\\u0009").replace("\r", "\\r").replace("\n", BREAK)


def _plain(text: str) -> bool:
    """Whether no character beyond ASCII needs an escape."""
    if text.isascii():
        return True
    if "\u2028" in text or "\u2029" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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

    __slots__ = ("_middle", "_rest", "_tail")

    def __init__(self, stream: int, attributes: str) -> None:
        """`attributes`: the JSON object for `attrs`, or empty for none."""
        extra = f',"attrs":{attributes}' if attributes else ""
        self._middle = f'","stream":"{STREAMS[stream]}"{extra},"time":"'
        self._rest = b""

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Whole log lines for what `data` completes, all with the one time."""
        cut = data.rfind(b"\n") + 1
        if not cut and len(self._rest) + len(data) < LINE_BYTES_MAX:
            self._rest += data
            return b""
        whole = self._rest + data[:cut] if cut else b""
        self._rest = data[cut:] if cut else self._rest + data
        tail = f'{self._middle}{stamp(now_ns)}"}}\n'
        out = self._whole(whole, tail) if whole else b""
        while len(self._rest) >= LINE_BYTES_MAX:
            out += self._part(self._rest[:LINE_BYTES_MAX], tail)
            self._rest = self._rest[LINE_BYTES_MAX:]
        return out

    def _whole(self, data: bytes, tail: str) -> bytes:
        """`data` ends in a newline."""
        if _has_long_line(data):
            return b"".join([self._cut(line, tail) for line in data[:-1].split(b"\n")])
        joint = f'\\n{tail}{{"log":"'
        text = '{"log":"' + escape(data[:-1]).replace(BREAK, joint) + "\\n" + tail
        return text.encode()

    def _cut(self, line: bytes, tail: str) -> bytes:
        out = b""
        while len(line) >= LINE_BYTES_MAX:
            out += self._part(line[:LINE_BYTES_MAX], tail)
            line = line[LINE_BYTES_MAX:]
        return out + self._whole(line + b"\n", tail)

    def _part(self, data: bytes, tail: str) -> bytes:
        return ('{"log":"' + escape(data) + tail).encode()

    def end(self, now_ns: int) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        return self._part(rest, f'{self._middle}{stamp(now_ns)}"}}\n')
