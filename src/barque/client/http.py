"""HTTP/1.1 as the Engine API needs it: requests as bytes, answers parsed from bytes. No I/O here.

Source: RFC 9112; Engine API reference, "Attach to a container", for the hijacked connection.
"""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HEAD_BYTES = 1 << 20
MAX_CHUNK_LINE_BYTES = 4096
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# Where an answer's body ends.
_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK, _TRAILER, _UNTIL_CLOSE, _RAW, _DONE = range(8)


def quote(text: str, safe: bytes = b"") -> str:
    """Percent-encode `text` as UTF-8."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(c) if c in _SAFE or c in safe else f"%{c:02X}" for c in raw)


def named(kind: str, name: str) -> str:
    """`name` as a part of a path. Raises InvalidArgument where it is empty: the path would be that
    of another endpoint. The words are those of Docker's client."""
    if not name.strip():
        raise errors.InvalidArgument(f"invalid {kind} name or ID: value is empty")
    return quote(name)


def query_string(pairs: Iterable[tuple[str, str]]) -> str:
    """`?a=b&c=d`, or nothing."""
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    return "?" + text if text else ""


def request_head(method: str, target: str, host: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The request line and the header fields. Raises InvalidArgument for a value of two lines."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    for name, value in headers:
        if "\r" in value or "\n" in value or "\0" in value:
            raise errors.InvalidArgument(f"invalid value of header {name}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


class Answer:
    """One response, fed with the bytes of the connection.

    After `feed`, `status` is 0 until the head is whole; `take` gives the body received so far;
    `done` says that it is all there; `rest` has the bytes behind it: of a connection that became a
    raw stream (`raw`), its first bytes. Raises DataLoss for what is not HTTP.
    """

    __slots__ = ("_body", "_left", "_state", "headers", "method", "rest", "status")

    def __init__(self, method: str) -> None:
        self.method = method
        self.status = 0
        self.headers: dict[str, str] = {}  # names in lower case
        self.rest = b""
        self._state = _HEAD
        self._left = 0
        self._body: list[bytes] = []

    @property
    def done(self) -> bool:
        return self._state == _DONE

    @property
    def raw(self) -> bool:
        return self._state == _RAW

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.done and self.headers.get("connection", "").lower() != "close"

    def take(self) -> bytes:
        """What of the body has come since the last call."""
        body, self._body = b"".join(self._body), []
        return body

    def hijack(self) -> bytes:
        """Treat all after the head as a raw stream; returns what of it has come already."""
        assert self.status, "no head yet"
        rest = self.take() + self.rest
        self._state, self.rest = _RAW, b""
        return rest

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection; b"" when the peer has closed it."""
        if not data:
            self._end()
            return
        self.rest += data
        while self.rest and self._step():
            pass

    def _end(self) -> None:
        if self._state in (_UNTIL_CLOSE, _RAW):
            self._state = _DONE
            self.headers["connection"] = "close"
        elif self._state != _DONE:
            raise errors.Unavailable("the connection was closed before the answer was complete")

    def _step(self) -> bool:
        """One move of the state machine; False: more bytes are needed, or all is done."""
        if self._state == _HEAD:
            return self._take_head()
        if self._state in (_LENGTH, _CHUNK):
            return self._take_counted()
        if self._state == _CHUNK_SIZE:
            return self._take_chunk_size()
        if self._state == _TRAILER:
            return self._take_trailer()
        if self._state in (_UNTIL_CLOSE, _RAW):
            self._body.append(self.rest)
            self.rest = b""
        return False

    def _take_head(self) -> bool:
        head, found, rest = self.rest.partition(b"\r\n\r\n")
        if not found:
            if len(self.rest) > MAX_HEAD_BYTES:
                raise errors.DataLoss("the answer's head is too large")
            return False
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise errors.DataLoss(f"malformed HTTP response {lines[0][:80]!r}")
        status = int(parts[1])
        self.rest = rest
        if 100 <= status < 200 and status != 101:
            return True  # an interim answer: the real one follows
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.status = status
        self._choose_body()
        return True

    def _choose_body(self) -> None:
        if self.status == 101:
            self._state = _RAW
        elif self.method == "HEAD" or self.status in (204, 304):
            self._state = _DONE
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._state = _CHUNK_SIZE
        elif "content-length" in self.headers:
            length = self.headers["content-length"]
            if not length.isdigit():
                raise errors.DataLoss(f"malformed content-length {length!r}")
            self._left = int(length)
            self._state = _LENGTH if self._left else _DONE
        else:
            self._state = _UNTIL_CLOSE

    def _take_counted(self) -> bool:
        piece = self.rest[: self._left]
        self.rest = self.rest[len(piece) :]
        self._left -= len(piece)
        self._body.append(piece)
        if not self._left:
            self._state = _DONE if self._state == _LENGTH else _CHUNK_SIZE
        return not self._left

    def _take_chunk_size(self) -> bool:
        line, found, rest = self.rest.partition(b"\r\n")
        if not found:
            if len(self.rest) > MAX_CHUNK_LINE_BYTES:
                raise errors.DataLoss("malformed chunk")
            return False
        self.rest = rest
        if not line:
            return True  # the line end of the chunk before
        size = line.partition(b";")[0].strip()
        try:
            self._left = -1 if size[:1] in b"+-" else int(size, 16)
        except ValueError:
            self._left = -1
        if self._left < 0:
            raise errors.DataLoss(f"malformed chunk size {line[:20]!r}")
        self._state = _CHUNK if self._left else _TRAILER
        return True

    def _take_trailer(self) -> bool:
        line, found, rest = self.rest.partition(b"\r\n")
        if not found:
            return False
        self.rest = rest
        if not line:
            self._state = _DONE
        return bool(line)
