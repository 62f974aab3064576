"""sd_notify(3) for a container: its readiness is told to who started the runtime. As runc does.

    create   binds <container>/notify into the container at /run/notify, and names the socket there
    start    listens at the socket, starts the process, waits for its READY=1 (or its end), then
             tells the service manager: READY=1, MAINPID=, and a barrier until it has been read

The socket is the container's to write to: only READY= lines are passed on, and not more than one.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

from barque.oci.runtime import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Spec
    from barque.runc.container import Container

INSIDE = "/run/notify"
NAME = "notify.sock"
LONGEST_MESSAGE = 4096  # bytes
BARRIER_PATIENCE_MS = 30_000
OPTIONS = ("bind", "nosuid", "noexec", "nodev", "ro")


def prepare(container: Container, spec: Spec) -> None:
    """Make the directory, and let the container know of its socket."""
    directory = container.paths.notify(container.id)
    os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)  # whatever the umask
    spec.mounts = (
        *spec.mounts,
        Mount(
            destination=INSIDE,
            source=directory,
            type="bind",
            options=OPTIONS,
            uid_mappings=(),
            gid_mappings=(),
        ),
    )
    spec.process.env = (*spec.process.env, f"NOTIFY_SOCKET={INSIDE}/{NAME}")


class Proxy:
    """The container's socket, from before its process starts."""

    __slots__ = ("container", "manager", "socket")

    def __init__(self, container: Container, manager: str) -> None:
        self.container = container
        self.manager = manager
        self.socket = _datagram()
        directory = os.open(container.paths.notify(container.id), os.O_PATH | os.O_DIRECTORY)
        try:
            # the path of a socket has at most 107 bytes, a container's directory any number
            place = f"/proc/self/fd/{directory}/{NAME}"
            self.socket.bind(place)
            os.chmod(place, 0o777)
        finally:
            os.close(directory)

    def relay(self) -> None:
        """Wait until the container is ready, and say so; return as well when it has ended."""
        pidfd = os.pidfd_open(self.container.pid)
        try:
            ready = self._ready(pidfd)
        finally:
            os.close(pidfd)
        if ready:
            tell(self.manager, ready, self.container.pid)

    def _ready(self, pidfd: int) -> bytes:
        poller = select.poll()
        poller.register(self.socket.fileno(), select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        while True:
            found = dict(poller.poll())
            if self.socket.fileno() in found:
                for line in self.socket.recv(LONGEST_MESSAGE).split(b"\n"):
                    if line.startswith(b"READY="):
                        return line
            elif pidfd in found:
                return b""

    def close(self) -> None:
        self.socket.close()


def tell(manager: str, ready: bytes, pid: int) -> None:
    """sd_notify(3), sd_notify_barrier(3): return when the manager has read all."""
    client = _datagram()
    try:
        client.connect(b"\0" + os.fsencode(manager[1:]) if manager[0] == "@" else manager)
        client.send(ready + b"\n")
        client.send(f"MAINPID={pid}\n".encode())
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", writer))]
            client.sendmsg([b"BARRIER=1"], rights)
        finally:
            os.close(writer)
        try:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            poller.poll(BARRIER_PATIENCE_MS)  # a manager that knows no barrier never closes it
        finally:
            os.close(reader)
    finally:
        client.close()


def _datagram() -> _socket.socket:
    kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
    return _socket.socket(_socket.AF_UNIX, kind)
