"""The client against a scripted daemon: negotiation, errors, connections."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import errors
from barque.client.client import Client

TOO_NEW = b'{"message":"client version 1.55 is too new. Maximum supported API version is 1.41"}'


class Script:
    """A daemon that answers from a list, one answer a request, and keeps the requests' heads."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.answers: list[bytes] = []
        self.heads: list[str] = []
        self.connections = 0
        self.refused = ""  # a version's prefix that is answered with TOO_NEW
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head.decode())
                data = data[self._length(head) :]
                if self.refused and self.refused in head.decode():
                    connection.sendall(answer(400, TOO_NEW))
                    continue
                reply = self.answers.pop(0) if self.answers else b""
                if not reply:
                    return
                connection.sendall(reply)

    @staticmethod
    def _length(head: bytes) -> int:
        lines = head.lower().split(b"\r\n")
        return next((int(x[15:]) for x in lines if x.startswith(b"content-length:")), 0)

    def lines(self) -> list[str]:
        return [head.split("\r\n")[0] for head in self.heads]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def answer(status: int, body: bytes, version: str = "1.55") -> bytes:
    return b"HTTP/1.1 %d X\r\nApi-Version: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        version.encode(),
        len(body),
        body,
    )


@pytest.fixture
def script() -> Iterator[Script]:
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as directory:
        script = Script(Path(directory) / "s")
        yield script
        script.close()


def test_a_new_daemon_costs_no_extra_request(script: Script) -> None:
    script.answers = [answer(200, b"[]"), answer(200, b"[]")]
    client = Client(script.host)
    client.containers.list()
    client.containers.list()
    assert script.lines() == ["GET /v1.55/containers/json HTTP/1.1"] * 2
    assert script.connections == 1


def test_an_older_daemon_is_asked_again_in_its_version(script: Script) -> None:
    script.answers = [answer(400, TOO_NEW), answer(200, b"[]"), answer(200, b"[]")]
    client = Client(script.host)
    assert client.containers.list() == []
    client.images.list()
    assert script.lines() == [
        "GET /v1.55/containers/json HTTP/1.1",
        "GET /v1.41/containers/json HTTP/1.1",
        "GET /v1.41/images/json HTTP/1.1",
    ]
    assert client.version == "1.41"


def test_several_first_requests_are_all_asked_again(script: Script) -> None:
    script.refused = "/v1.55/"
    script.answers = [answer(204, b"", "1.41")] * 2
    client = Client(script.host)
    finish = [client.containers.begin_remove(name) for name in "ab"]
    assert [wait().status for wait in finish] == [204, 204]


def test_a_fixed_version_is_not_negotiated(script: Script) -> None:
    script.answers = [answer(400, TOO_NEW)]
    with pytest.raises(errors.InvalidArgument, match="too new"):
        Client(script.host, version="1.55").containers.list()


def test_a_daemon_that_tells_an_older_version_is_believed(script: Script) -> None:
    script.answers = [answer(200, b"[]", "1.40"), answer(200, b"[]", "1.40")]
    client = Client(script.host)
    client.containers.list()
    client.containers.list()
    assert script.lines()[1] == "GET /v1.40/containers/json HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidArgument),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (500, errors.BarqueError),
        (501, errors.Unsupported),
        (503, errors.Unavailable),
    ],
)
def test_statuses_are_kinds(script: Script, status: int, kind: type[errors.BarqueError]) -> None:
    script.answers = [answer(status, b'{"message":"no such thing"}')]
    with pytest.raises(kind, match=r"^Error response from daemon: no such thing$"):
        Client(script.host).containers.list()


def test_an_error_in_plain_text_is_told_too(script: Script) -> None:
    script.answers = [answer(500, b"page not found\n")]
    with pytest.raises(errors.BarqueError, match="page not found"):
        Client(script.host).containers.list()


def test_what_the_daemon_does_not_know(script: Script) -> None:
    script.answers = [answer(404, b'{"message":"page not found"}')]
    with pytest.raises(errors.Unsupported, match=r"page not found: this daemon cannot do that$"):
        Client(script.host).images.verify("busybox")


def test_progress_documents_come_one_by_one(script: Script) -> None:
    body = b'{"status":"a"}\r\n{"status":"b"}{"status":"c"}'
    script.answers = [answer(200, b"OK"), answer(200, body)]
    client = Client(script.host)
    client.settle()
    assert [d["status"] for d in client.request("POST", "/x").documents()] == ["a", "b", "c"]


def test_progress_that_is_not_json_is_told(script: Script) -> None:
    script.answers = [answer(200, b"{} nonsense\n")]
    with pytest.raises(errors.DataLoss):
        list(Client(script.host).request("GET", "/x").documents())


def test_nobody_listening_is_told_in_the_usual_words(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none"
    with pytest.raises(errors.Unavailable) as failure:
        Client(host).containers.list()
    assert str(failure.value) == (
        f"Cannot connect to the Docker daemon at {host}. Is the docker daemon running?"
    )


def test_an_absent_daemon_may_be_started_once(script: Script) -> None:
    started = []

    def start() -> bool:
        started.append(True)
        return len(started) == 1

    client = Client(script.host + "-later", absent=start)
    with pytest.raises(errors.Unavailable):
        client.containers.list()
    assert len(started) == 1


def test_a_connection_closed_while_idle_is_replaced(script: Script) -> None:
    script.answers = [answer(200, b"[]"), b"", answer(200, b"[]")]
    client = Client(script.host)
    client.containers.list()
    assert client.containers.list() == []
    assert script.connections == 2


def test_an_answer_that_never_comes_is_told(script: Script) -> None:
    script.answers = [b""]
    with pytest.raises(errors.Unavailable):
        Client(script.host).containers.create({"Image": "x"})


def test_an_early_refusal_of_a_long_body_is_read(tmp_path: Path) -> None:
    """A daemon of an older version answers before it has read what it does not want."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    heads: list[bytes] = []

    def serve() -> None:
        for reply in (answer(400, TOO_NEW), answer(201, b'{"Id": "made"}')):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as whole:
                heads.append(whole.readline())
                if b"v1.41" in heads[-1]:
                    length = 0
                    while (line := whole.readline().strip()) != b"":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split()[1])
                    whole.read(length)
                connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = Client(f"unix://{tmp_path}/s")
    made = client.request("POST", "/containers/create", body={"Env": ["x" * (8 << 20)]}).json()
    thread.join(60)
    listener.close()
    assert made == {"Id": "made"}
    assert b"/v1.41/containers/create" in heads[1]
