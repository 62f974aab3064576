"""netlink: messages, attributes and the socket they travel on (RFC 3549; linux/netlink.h).

Encoding is pure: `attribute`, `nested`, `Message`; decoding is bounded by the bytes at hand.
`Netlink` sends a batch of messages in one datagram and waits for every acknowledgement. A socket
acts on the network namespace it was opened in, whoever holds it later.
"""

from __future__ import annotations

import _socket
import os
import struct

from barque.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_DUMP: Final = 0x300
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_CAPPED: Final = 0x100
NLM_F_DUMP_INTR: Final = 0x10

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
NLMSGERR_ATTR_MSG: Final = 1

SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12

MAX_ATTRIBUTE_BYTES: Final = 0xFFFF
RECEIVE_BYTES: Final = 1 << 18
DUMP_ATTEMPTS: Final = 5
ANSWER_TIMEOUT_S: Final = 30.0  # the kernel answers at once; an answer lost to a full buffer, never

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0", b"\0\0", b"\0\0\0")


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes.

    Raises InvalidArgument when it does not fit the 16-bit length: a length that wraps would let the
    rest of the payload be read as attributes of its own (CVE-2021-43784).
    """
    length = 4 + len(payload)
    if length > MAX_ATTRIBUTE_BYTES:
        raise InvalidArgument(f"netlink attribute {kind} is too long: {len(payload)} bytes")
    return _ATTRIBUTE.pack(length, kind) + payload + _PADDING[-length % 4]


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """A string attribute, ended by NUL. Raises InvalidArgument for a NUL inside."""
    if "\0" in value:
        raise InvalidArgument(f"netlink string contains NUL: {value!r}")
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by type; of a repeated type the last.

    Raises ValueError for a length that leaves `data`.
    """
    found: dict[int, bytes] = {}
    for kind, payload in attribute_list(data, offset):
        found[kind] = payload
    return found


def attribute_list(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from `offset` on, in order. Raises ValueError like `attributes`."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise ValueError(f"netlink attribute of {length} bytes at {offset} of {len(data)}")
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Message:
    """A request still without sequence number. `what` names the action and its object in errors."""

    __slots__ = ("body", "flags", "kind", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what

    def encode(self, sequence: int) -> bytes:
        """The message with its header, padded. Raises InvalidArgument beyond 32 bits of length."""
        length = _HEADER.size + len(self.body)
        header = _HEADER.pack(length, self.kind, NLM_F_REQUEST | self.flags, sequence, 0)
        return header + self.body + _PADDING[-length % 4]


class Reply:
    """A received message: its type, flags, sequence number, body and whose request it is about."""

    __slots__ = ("body", "flags", "kind", "port", "sequence")

    def __init__(self, kind: int, flags: int, sequence: int, body: bytes, port: int = 0) -> None:
        self.kind = kind
        self.flags = flags
        self.sequence = sequence
        self.body = body
        self.port = port


def replies(data: bytes) -> Iterator[Reply]:
    """The messages of one datagram. Raises ValueError for a length that leaves it."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise ValueError(f"netlink message of {length} bytes at {offset} of {len(data)}")
        yield Reply(kind, flags, sequence, data[offset + _HEADER.size : offset + length], port)
        offset += (length + 3) & ~3


def error_of(reply: Reply, what: str) -> OSError | None:
    """What an NLMSG_ERROR says, or None for an acknowledgement; with the kernel's own words."""
    (code,) = struct.unpack_from("=i", reply.body)
    if code == 0:
        return None
    words = os.strerror(-code)
    if reply.flags & NLM_F_ACK_TLVS:
        (echoed,) = struct.unpack_from("=I", reply.body, 4)
        offset = 4 + (_HEADER.size if reply.flags & NLM_F_CAPPED else (echoed + 3) & ~3)
        reason = attributes(reply.body, offset).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0")
        if reason:
            words = f"{words} ({reason.decode(errors='replace')})"
    return OSError(-code, f"{what}: {words}")


class Netlink:
    """A netlink socket. Synchronous; one user at a time."""

    def __init__(self, protocol: int, fileno: int | None = None) -> None:
        """Open a socket in the caller's network namespace, or own one that came by SCM_RIGHTS."""
        if fileno is None:
            kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
            self._socket.bind((0, 0))
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                self._set_option(option)
        else:
            self._socket = _socket.socket(fileno=fileno)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._sequence = 0

    def _set_option(self, option: int) -> None:
        try:
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        except OSError:  # an older kernel: shorter error texts, wider dumps; both are handled
            pass

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def port(self) -> int:
        """Our address: multicast messages name with it whose request made the change."""
        return int(self._socket.getsockname()[0])

    def join(self, group: int) -> None:
        """Receive the multicast messages of `group` (NETLINK_ADD_MEMBERSHIP)."""
        self._socket.setsockopt(SOL_NETLINK, 1, group)

    def set_blocking(self, blocking: bool) -> None:
        self._socket.setblocking(blocking)

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> list[Reply]:
        """The messages of the next datagram; waits for it."""
        return list(replies(self._socket.recv(RECEIVE_BYTES)))

    def reserve(self, count: int) -> int:
        """The first of `count` sequence numbers that no other request of this socket has."""
        first = self._sequence + 1
        self._sequence += count
        return first

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def request(self, *messages: Message) -> None:
        """Perform `messages` in order and return when all are acknowledged.

        The kernel goes on after a message that failed. Raises the OSError of the first that did.
        """
        first = self.reserve(len(messages))
        self.send(
            b"".join(
                Message(m.kind, m.flags | NLM_F_ACK, m.body, m.what).encode(first + number)
                for number, m in enumerate(messages)
            )
        )
        self._await(first, messages)

    def _await(self, first: int, messages: tuple[Message, ...]) -> None:
        waiting = len(messages)
        failures: dict[int, OSError] = {}
        while waiting:
            for reply in self.receive():
                number = reply.sequence - first
                if reply.kind != NLMSG_ERROR or not 0 <= number < len(messages):
                    continue
                waiting -= 1
                error = error_of(reply, messages[number].what)
                if error is not None:
                    failures[number] = error
        if failures:
            raise failures[min(failures)]

    def dump(self, message: Message) -> list[Reply]:
        """All answers to a dump request; asked again when a change interrupted it."""
        for _ in range(DUMP_ATTEMPTS):
            found, whole = self._dump(message)
            if whole:
                return found
        raise OSError(4, f"{message.what}: {os.strerror(4)}")  # EINTR

    def _dump(self, message: Message) -> tuple[list[Reply], bool]:
        sequence = self.reserve(1)
        query = Message(message.kind, message.flags | NLM_F_DUMP, message.body, message.what)
        self.send(query.encode(sequence))
        found: list[Reply] = []
        whole = True
        while True:
            for reply in self.receive():
                if reply.sequence != sequence:
                    continue
                whole = whole and not reply.flags & NLM_F_DUMP_INTR
                if reply.kind == NLMSG_DONE:
                    return found, whole
                if reply.kind == NLMSG_ERROR:
                    error = error_of(reply, message.what)
                    if error is not None:
                        raise error
                elif reply.kind > NLMSG_DONE:
                    found.append(reply)

    def get(self, message: Message) -> Reply:
        """The one answer to a get request. Raises OSError as the kernel says."""
        sequence = self.reserve(1)
        self.send(message.encode(sequence))
        while True:
            for reply in self.receive():
                if reply.sequence != sequence:
                    continue
                if reply.kind == NLMSG_ERROR:
                    error = error_of(reply, message.what)
                    if error is not None:
                        raise error
                    continue
                return reply
