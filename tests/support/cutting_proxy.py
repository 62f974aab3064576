"""A way to a server that breaks: the first connections carry so many bytes and no more.

with cutting_proxy("127.0.0.1:5000", [100_000]) as address: ...
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE_BYTES = 4096
LARGE_BYTES = 4096  # a connection that carries fewer is not cut: its turn comes later


@contextmanager
def cutting_proxy(address: str, upwards: list[int]) -> Iterator[str]:
    """`upwards`: how many bytes of a client each of the first long connections carries."""
    host, _, port = address.rpartition(":")
    left, lock = list(upwards), threading.Lock()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def downward(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(PIECE_BYTES):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def upward(client: socket.socket, server: socket.socket) -> None:
        carried, limit = 0, -1
        with suppress(OSError):
            while data := client.recv(PIECE_BYTES):
                if limit < 0 and carried + len(data) > LARGE_BYTES:
                    with lock:
                        limit = left.pop(0) if left else 1 << 60
                if 0 <= limit < carried + len(data):
                    server.sendall(data[: max(0, limit - carried)])
                    server.shutdown(socket.SHUT_WR)
                    client.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)
                carried += len(data)
            server.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                sockets.extend((client, server))
                for carry in (upward, downward):
                    thread = threading.Thread(target=carry, args=(client, server))
                    thread.start()
                    threads.append(thread)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for one in sockets:
            one.close()
