"""What the runtime and the process that becomes the container's say to each other.

One SOCK_SEQPACKET pair, one packet a message: a letter, then text, then maybe a descriptor.

    runtime                              container's process
       |  clone3                              |
       |------------------------------------->|  enters its cgroups
       |  GO: its ids are mapped              |
       |------------------------------------->|  (waited for in a new user namespace only)
       |                                      |  namespaces, mounts, devices
       |  ENTRIES of cgroups made meanwhile   |
       |------------------------------------->|  (version 1 only) enters them
       |            CONSOLE + terminal master |
       |<-------------------------------------|
       |                     MOUNTED (hooks)  |
       |<-------------------------------------|
       |  createRuntime hooks            GO   |
       |------------------------------------->|  pivot_root, user, capabilities, seccomp
       |         LISTENER + its fd's number   |  (seccomp asks a process of the host)
       |<-------------------------------------|
       |  it has been handed on          GO   |
       |------------------------------------->|
       |                               READY  |  waits at the fifo (create) or executes (exec)
       |<-------------------------------------|
       |  FAILED, NOT_EXECUTABLE, with reason |  at any time instead; end of file: it was killed
"""

from __future__ import annotations

import _socket
import os
import struct

from barque.errors import BarqueError

GO = b"G"
ENTRIES = b"E"
MOUNTED = b"M"
CONSOLE = b"C"
READY = b"R"
LISTENER = b"L"
FAILED = b"F"
NOT_EXECUTABLE = b"X"

LONGEST_MESSAGE = 8192  # bytes
SCM_RIGHTS = _socket.SCM_RIGHTS
FD_BYTES = 4
MOST_ENTRIES = 64  # hierarchies of cgroups; there are some twelve controllers


class Channel:
    """One end."""

    __slots__ = ("socket",)

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket

    def send(self, kind: bytes, text: str = "", fd: int = -1) -> None:
        data = kind + text.encode(errors="replace")[: LONGEST_MESSAGE - 1]
        if fd < 0:
            self.socket.send(data)
        else:
            self.socket.sendmsg([data], [(_socket.SOL_SOCKET, SCM_RIGHTS, struct.pack("i", fd))])

    def receive(self) -> tuple[bytes, str, int]:
        """The next message; its kind is empty when the other end is gone.

        An end that was closed before it read all resets this one, once: what it had sent is still
        here.
        """
        try:
            data, ancillary = self._take()
        except ConnectionResetError:
            data, ancillary = self._take()
        fd = -1
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == SCM_RIGHTS:
                fd = struct.unpack("i", content[:FD_BYTES])[0]
        return data[:1], data[1:].decode(errors="replace"), fd

    def _take(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        data, ancillary, _, _ = self.socket.recvmsg(
            LONGEST_MESSAGE, _socket.CMSG_SPACE(FD_BYTES), _socket.MSG_CMSG_CLOEXEC
        )
        return data, ancillary

    def send_listener(self, number: int) -> None:
        """By write(2) alone, which no filter with a listener may ask about."""
        os.write(self.fileno(), LISTENER + str(number).encode())

    def give_entries(self, entries: list[int]) -> None:
        """Descriptors of cgroups that the other end enters by them."""
        rights = struct.pack(f"{len(entries)}i", *entries)
        self.socket.sendmsg([ENTRIES], [(_socket.SOL_SOCKET, SCM_RIGHTS, rights)])

    def take_entries(self) -> list[int]:
        """Wait for them."""
        data, ancillary, _, _ = self.socket.recvmsg(
            len(ENTRIES), _socket.CMSG_SPACE(MOST_ENTRIES * FD_BYTES), _socket.MSG_CMSG_CLOEXEC
        )
        if data != ENTRIES:
            raise BarqueError("the runtime is gone")
        return [fd for _, _, content in ancillary for (fd,) in struct.iter_unpack("i", content)]

    def expect_go(self) -> None:
        """Wait for the runtime; when it is gone there is nobody to go on for."""
        if self.receive()[0] != GO:
            raise BarqueError("the runtime is gone")

    def close(self) -> None:
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()


def pair() -> tuple[Channel, Channel]:
    """Both ends, close-on-exec."""
    one, other = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0
    )
    return Channel(one), Channel(other)


def send_descriptor(path: str, name: str, fd: int) -> None:
    """Give `fd` to who listens at the unix socket `path`, with `name` as the message.

    This is how a console socket takes the master of a terminal. runc, docs/terminals.md.
    """
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(os.fsencode(path))
        rights = [(_socket.SOL_SOCKET, SCM_RIGHTS, struct.pack("i", fd))]
        socket.sendmsg([name.encode()], rights)
    finally:
        socket.close()
