"""TLS on loopback with certificates made for the test: mutual, half-closed, refused."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque import errors
from barque.client.client import Client
from barque.client.connection import Host, Tls
from barque.client.tls import connect
from tests.support.certificates import server_context
from tools.certificates import make_certificates

SHUT_WR = 1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def serve(files: Path) -> Iterator[Callable[[Callable[[ssl.SSLSocket], None]], tuple[str, int]]]:
    """Starts a server that hands one connection to a function; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def start(talk: Callable[[ssl.SSLSocket], None]) -> tuple[str, int]:
        context = server_context(files)

        def run() -> None:
            raw, _ = listener.accept()
            try:
                with context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=True) as end:
                    talk(end)
            except OSError:
                pass

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        address: tuple[str, int] = listener.getsockname()
        return address

    yield start
    listener.close()
    for thread in threads:
        thread.join(30)


def options(files: Path) -> Tls:
    return Tls(str(files / "ca.pem"), str(files / "cert.pem"), str(files / "key.pem"))


def test_reading_goes_on_after_our_end(files: Path, serve: Callable[..., tuple[str, int]]) -> None:
    heard = []

    def talk(end: ssl.SSLSocket) -> None:
        while piece := end.recv(1000):
            heard.append(piece)
        end.sendall(b"answer" * 20000)
        end.unwrap()

    host, port = serve(talk)
    stream = connect(Host(f"tcp://{host}:{port}"), options(files))
    stream.sendall(b"quest")
    assert stream.send(b"ion") == 3
    stream.shutdown(SHUT_WR)
    stream.setblocking(True)
    answer = b""
    while piece := stream.recv(1 << 16):
        answer += piece
    stream.close()
    assert b"".join(heard) == b"question"
    assert answer == b"answer" * 20000


def test_a_client_over_tls(files: Path, serve: Callable[..., tuple[str, int]]) -> None:
    def talk(end: ssl.SSLSocket) -> None:
        assert end.recv(1 << 16).startswith(b"GET /v1.55/version ")
        end.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"Version": "1"}'[:-1])
        end.sendall(b"")

    host, port = serve(talk)
    client = Client(f"tcp://{host}:{port}", tls=options(files))
    with pytest.raises(errors.DataLoss):
        client.system.version()  # the length cuts the last brace: decrypted and counted exactly


def test_a_daemon_that_nobody_vouches_for_is_refused(
    files: Path, serve: Callable[..., tuple[str, int]]
) -> None:
    host, port = serve(lambda end: None)
    with pytest.raises(errors.Unavailable, match="certificate verify failed"):
        Client(f"tcp://{host}:{port}", tls=Tls()).system.version()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """And not a daemon that does not run."""
    none, junk = tmp_path / "none.pem", tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for made in (Tls(ca=str(none)), Tls(ca=str(junk)), Tls(cert=str(junk), key=str(none))):
        with pytest.raises(errors.InvalidArgument, match=str(tmp_path)):
            connect(Host("tcp://127.0.0.1:1"), made)
