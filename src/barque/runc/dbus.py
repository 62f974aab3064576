"""The least of D-Bus that talks to systemd: method calls, their answers, one kind of signal.

Source: the D-Bus specification, "Type System", "Message Protocol", "Authentication Protocol". The
messages are little-endian. Values are written by signature: `s` str, `o` str, `u` and `t` int,
`b` bool, `y` int, `v` (signature, value), `a?` list, `ay` bytes too, `(...)` tuple.
"""

from __future__ import annotations

import _socket
import os
import struct

from barque.errors import BarqueError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
SIMPLE = {"y": "B", "b": "I", "u": "I", "i": "i", "t": "Q", "x": "q", "n": "h", "q": "H"}
ALIGNMENT = {**{code: struct.calcsize(form) for code, form in SIMPLE.items()}, "d": 8}
ALIGNMENT |= {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}
FIXED_BYTES = 16
LONGEST_MESSAGE = 1 << 27  # the specification's
PATIENCE_S = 30.0
SYSTEM_BUS = "/run/dbus/system_bus_socket"
PRIVATE_BUS = "/run/systemd/private"  # systemd's own, for root, where no bus runs
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class Refused(BarqueError):
    """The other side answers with an error; `name` is its D-Bus name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


def types(signature: str) -> Iterator[str]:
    """The complete types of a signature, one by one."""
    at = 0
    while at < len(signature):
        end = _end_of_type(signature, at)
        yield signature[at:end]
        at = end


def _end_of_type(signature: str, at: int) -> int:
    while signature[at] == "a":
        at += 1
    if signature[at] not in "({":
        return at + 1
    depth = 0
    while True:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[at], 0)
        at += 1
        if not depth:
            return at


def pad(out: bytearray, to: int) -> None:
    out += b"\0" * (-len(out) % to)


def write(out: bytearray, kind: str, value: Any) -> None:
    """Append one value of a complete type."""
    code = kind[0]
    pad(out, ALIGNMENT[code])
    if code in SIMPLE:
        out += struct.pack(f"<{SIMPLE[code]}", value)
    elif code in "so":
        raw = value.encode()
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif code == "v":
        write(out, "g", value[0])
        write(out, *value)
    elif code == "a":
        _write_array(out, kind[1:], value)
    else:
        for part, one in zip(types(kind[1:-1]), value, strict=True):
            write(out, part, one)


def _write_array(out: bytearray, kind: str, values: Any) -> None:
    """The length counts from the first element, after its alignment."""
    at = len(out)
    out += bytes(4)
    pad(out, ALIGNMENT[kind[0]])
    begin = len(out)
    for value in values:
        write(out, kind, value)
    struct.pack_into("<I", out, at, len(out) - begin)


class Reader:
    """Values of one message, read in order. ValueError, struct.error, IndexError: it is broken."""

    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw = raw
        self.at = at

    def read(self, kind: str) -> Any:
        code = kind[0]
        self.at += -self.at % ALIGNMENT[code]
        if code in SIMPLE:
            return self._number(SIMPLE[code])
        if code in "so":
            return self._text(self._number("I"))
        if code == "g":
            return self._text(self._number("B"))
        if code == "v":
            return self.read(self.read("g"))
        if code == "a":
            return self._array(kind[1:])
        return tuple(self.read(part) for part in types(kind[1:-1]))

    def _number(self, form: str) -> int:
        value: int = struct.unpack_from(f"<{form}", self.raw, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def _text(self, length: int) -> str:
        if self.at + length >= len(self.raw):
            raise ValueError("cut off")
        text = self.raw[self.at : self.at + length].decode()
        self.at += length + 1
        return text

    def _array(self, kind: str) -> list[Any]:
        length = self._number("I")
        self.at += -self.at % ALIGNMENT[kind[0]]
        end = self.at + length
        if end > len(self.raw):
            raise ValueError("cut off")
        found = []
        while self.at < end:
            found.append(self.read(kind))
        return found


class Message:
    """One message that came."""

    __slots__ = ("body", "fields", "kind")

    def __init__(self, kind: int, fields: dict[int, Any], body: list[Any]) -> None:
        self.kind = kind
        self.fields = fields
        self.body = body


def encode(
    serial: int, target: tuple[str, str, str], member: str, signature: str, *values: Any
) -> bytes:
    """A method call to (destination, path, interface)."""
    body = bytearray()
    for kind, value in zip(types(signature), values, strict=True):
        write(body, kind, value)
    destination, path, interface = target
    fields = [(PATH, ("o", path)), (INTERFACE, ("s", interface)), (MEMBER, ("s", member))]
    if destination:
        fields.append((DESTINATION, ("s", destination)))
    if signature:
        fields.append((SIGNATURE, ("g", signature)))
    out = bytearray(struct.pack("<cBBBII", b"l", CALL, 0, 1, len(body), serial))
    write(out, "a(yv)", fields)
    pad(out, 8)
    return bytes(out + body)


def decode(raw: bytes) -> Message:
    reader = Reader(raw, 12)
    fields = dict(reader.read("a(yv)"))
    reader.at += -reader.at % 8
    body = [reader.read(kind) for kind in types(fields.get(SIGNATURE, ""))]
    return Message(raw[1], fields, body)


def length_of(head: bytes) -> int:
    """How long the message is that begins with these 16 bytes."""
    if head[:1] != b"l":
        raise ValueError("not little-endian")
    body, _, fields = struct.unpack_from("<III", head, 4)
    total: int = FIXED_BYTES + fields + (-fields % 8) + body
    if total > LONGEST_MESSAGE:
        raise ValueError("too long")
    return total


def users_buses() -> tuple[str, ...]:
    """Where a user's bus may be, and his systemd's own socket. D-Bus, "Well-known Message Bus
    Instances"; sd_bus_default_user(3). Raises Unavailable where the environment does not tell."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime:
        raise Unavailable("unable to connect to systemd: XDG_RUNTIME_DIR is not set")
    told = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    named = [one for one in told.split(";") if one.startswith("unix:path=") and "%" not in one]
    first = [one.removeprefix("unix:path=").split(",")[0] for one in named]
    return (*first, f"{runtime}/bus", f"{runtime}/systemd/private")


class Connection:
    """One connection to a bus, or to systemd itself. Calls are made one after another.

    Root's is to the system's, an ordinary user's to his own.
    """

    def __init__(self) -> None:
        self.serial = 0
        self.signals: list[Message] = []
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.direct = self._connect()
            self._authenticate()
            if not self.direct:
                self.call(BUS, "Hello")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> bool:
        """The bus, or systemd's own socket; True: it is the latter."""
        paths = users_buses() if os.geteuid() else (SYSTEM_BUS, PRIVATE_BUS)
        for path in paths:
            try:
                self.socket.connect(path)
                return path == paths[-1]
            except OSError:
                continue
        which = "user" if os.geteuid() else "system"
        raise Unavailable(f"unable to connect to systemd: no {which} bus is running")

    def _authenticate(self) -> None:
        identity = str(os.geteuid()).encode().hex().encode()
        self._send(b"\0AUTH EXTERNAL " + identity + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            piece = self._take(1)
            answer += piece
        if not answer.startswith(b"OK "):
            raise BarqueError(f"the bus refuses us: {answer.decode(errors='replace').strip()}")
        self._send(b"BEGIN\r\n")

    def call(
        self, target: tuple[str, str, str], member: str, signature: str = "", *values: Any
    ) -> list[Any]:
        """Call a method and return the values of its answer. Refused: it answers an error."""
        self.serial += 1
        destination, path, interface = target
        if self.direct:
            destination = ""
        self._send(encode(self.serial, (destination, path, interface), member, signature, *values))
        while True:
            message = self._receive()
            if message.kind == SIGNAL:
                self.signals.append(message)
            elif message.fields.get(REPLY_SERIAL) == self.serial:
                if message.kind == ERROR:
                    text = message.body[0] if message.body else ""
                    raise Refused(message.fields.get(ERROR_NAME, ""), str(text))
                return message.body

    def subscribe(self, rule: str) -> None:
        """Let signals come that match the rule; systemd's own socket sends all."""
        if not self.direct:
            self.call(BUS, "AddMatch", "s", rule)

    def signal(self, member: str) -> list[Any]:
        """The values of the next signal of this name."""
        while True:
            message = self.signals.pop(0) if self.signals else self._receive()
            if message.kind == SIGNAL and message.fields.get(MEMBER) == member:
                return message.body

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Unavailable(f"systemd: {os.strerror(error.errno or 0).lower()}") from None

    def _receive(self) -> Message:
        try:
            head = self._take(FIXED_BYTES)
            return decode(head + self._take(length_of(head) - FIXED_BYTES))
        except (ValueError, struct.error, IndexError, KeyError, TypeError) as error:
            raise BarqueError(f"a message of the bus is not readable: {error}") from None

    def _take(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            try:
                piece = self.socket.recv(count - len(out))
            except TimeoutError:
                raise Unavailable(f"systemd does not answer within {PATIENCE_S:.0f} s") from None
            if not piece:
                raise Unavailable("systemd has closed the connection")
            out += piece
        return out

    def close(self) -> None:
        self.socket.close()
