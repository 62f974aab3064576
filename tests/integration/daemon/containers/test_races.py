"""Many clients on few containers: each answer is one of Docker's, and nothing is left."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
NAMES = ("race-a", "race-b", "race-c")
CLIENTS, ROUNDS = 8, 40
EXPECTED = {200, 201, 204, 304, 400, 404, 409}


class Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("d", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def call(barque: Stack, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = Connection(str(barque.socket))
    try:
        raw = json.dumps(body) if body is not None else None
        connection.request(method, path, raw, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def one_client(barque: Stack, seed: int) -> list[str]:
    """Random calls; what was answered that should not have been."""
    source, wrong = random.Random(seed), []
    for _ in range(ROUNDS):
        name = source.choice(NAMES)
        method, path, body = source.choice(
            [
                ("POST", f"/containers/create?name={name}",
                 {"Image": "busybox", "Cmd": ["sleep", "1000"],
                  "HostConfig": {"AutoRemove": source.random() < 0.3}}),
                ("POST", f"/containers/{name}/start", None),
                ("POST", f"/containers/{name}/start", None),
                ("POST", f"/containers/{name}/stop?t=0", None),
                ("POST", f"/containers/{name}/kill", None),
                ("POST", f"/containers/{name}/restart?t=0", None),
                ("POST", f"/containers/{name}/pause", None),
                ("POST", f"/containers/{name}/unpause", None),
                ("POST", f"/containers/{name}/rename?name={source.choice(NAMES)}", None),
                ("DELETE", f"/containers/{name}?force=1", None),
                ("GET", f"/containers/{name}/json", None),
                ("GET", "/containers/json?all=1", None),
                ("POST", f"/containers/{name}/exec", {"Cmd": ["true"]}),
            ]
        )  # fmt: skip
        status, answer = call(barque, method, path, body)
        if status not in EXPECTED:
            wrong.append(f"{method} {path}: {status} {answer[:300]!r}")
    return wrong


def test_clients_race_on_the_same_containers(barque: Stack) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        results = pool.map(lambda seed: one_client(barque, seed), range(CLIENTS))
        assert [text for result in results for text in result] == []
    for name in NAMES:
        call(barque, "DELETE", f"/containers/{name}?force=1")
    assert json.loads(call(barque, "GET", "/containers/json?all=1")[1]) == []
    nothing_left(barque)


def nothing_left(barque: Stack) -> None:
    database = f"file:{barque.root}/d/daemon.db?mode=ro"
    pause = threading.Event()
    for _ in range(200):
        with sqlite3.connect(database, uri=True) as connection:
            rows = connection.execute("SELECT count(*) FROM containers").fetchone()[0]
        directories = os.listdir(barque.root / "d/containers")
        sockets = os.listdir(barque.root / "r/io")
        if not (rows or directories or sockets):
            return
        pause.wait(0.05)
    raise AssertionError((rows, directories, sockets))


def test_clients_that_vanish_in_the_middle(barque: Stack) -> None:
    """A connection cut at any byte of a request harms nobody."""
    body = json.dumps({"Image": "busybox", "Cmd": ["true"]}).encode()
    head = (
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
    )
    request = head + body
    for cut in range(0, len(request), 7):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(barque.socket))
            connection.sendall(request[:cut])
    assert call(barque, "GET", "/containers/json")[0] == 200


def test_attached_clients_that_vanish(barque: Stack) -> None:
    script = "while true; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"
    barque.docker("run", "-d", "--name", "loud", "busybox", "sh", "-c", script)
    try:
        for path in ("attach?stream=1&stdout=1", "logs?follow=1&stdout=1", "stats"):
            method = "POST" if path.startswith("attach") else "GET"
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(barque.socket))
                connection.sendall(
                    f"{method} /containers/loud/{path} HTTP/1.1\r\nHost: d\r\n"
                    "Content-Length: 0\r\n\r\n".encode()
                )
                assert connection.recv(10).startswith(b"HTTP/1.1 ")
        started = time.monotonic()
        assert barque.docker("exec", "loud", "echo", "hi").stdout == b"hi\n"
        assert time.monotonic() - started < 30
    finally:
        barque.docker("rm", "-f", "loud")
