"""The proxy: one small single-threaded process that carries what is said to published ports.

Rules of the firewall redirect nearly all of it in the kernel. They cannot redirect what comes from
::1, what comes by IPv6 to a container that has only IPv4, and nothing where there are none.

It outlives the daemon, so that connections go on while that restarts, and leaves when it serves
nobody and no daemon is connected. Its standard input is the listening control socket (a stream);
requests and answers are lines of JSON, one answer for each request, in order. A port is called
"tcp [::]:8080":

    {"op": "hello"}               {"ok": true, "version": 1, "pid": N, "ports": [ports]}
    {"op": "put", "port": PORT, "target": [address, number]}   with the port's socket, which listens
    {"op": "give", "port": PORT}  its socket comes with the answer
    {"op": "drop", "port": PORT}
    {"op": "leave"}               it ends at once
    answers: {"ok": true} or {"error": "..."}

All may be sent again. Sockets go by SCM_RIGHTS.
"""

from __future__ import annotations

import _socket
import json
import os
import resource
import select
import signal
import time

from barque.network.control import Control
from barque.network.proxy.datagrams import Datagrams
from barque.network.proxy.streams import Stream, dial
from barque.network.readiness import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

VERSION: Final = 1
LINE_BYTES: Final = 1 << 16
LOOK_S: Final = 15.0  # between looks for clients of udp that are gone
PAUSE_S: Final = 1.0  # without new connections when there are too many


class Listener:
    """A published port of tcp or sctp."""

    def __init__(
        self, watch: Watch, opened: _socket.socket, family: int, target: tuple[str, int]
    ) -> None:
        self._watch = watch
        self._opened = opened
        self._family = family
        self._target = target
        self._streams: set[Stream] = set()
        self._again = 0.0  # when to go on, 0: it does
        opened.setblocking(False)
        watch.add(opened.fileno(), select.EPOLLIN, self._accept)

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def paused(self) -> bool:
        return bool(self._again)

    def expire(self, now: float) -> None:
        if self._again and now >= self._again:
            self._again = 0.0
            self._watch.add(self._opened.fileno(), select.EPOLLIN, self._accept)

    def close(self) -> None:
        """Take no more; connections end with their container."""
        if not self._again:
            self._watch.remove(self._opened.fileno())
        self._opened.close()
        for stream in list(self._streams):
            stream.forsake()

    def _accept(self, _events: int) -> None:
        try:
            fd, _ = self._opened._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError:  # no descriptors, or no memory
            self._again = time.monotonic() + PAUSE_S
            self._watch.remove(self._opened.fileno())
            return
        client = _socket.socket(fileno=fd)
        try:
            upstream = dial(self._family, self._opened.proto, self._target)
        except OSError:
            client.close()
            return
        self._streams.add(Stream(self._watch, client, upstream, self._streams.discard))


class Server:
    def __init__(self, listening: _socket.socket) -> None:
        self._watch = Watch()
        self._control = Control(self._watch, listening, self._perform, LINE_BYTES)
        self._ports: dict[str, tuple[_socket.socket, Listener | Datagrams]] = {}
        self._ending: list[Listener] = []  # their ports are gone, not yet all connections
        self._leaving = False
        self._next_look = 0.0

    def run(self) -> None:
        """Serve until nobody needs us."""
        while not self._leaving:
            self._watch.wait(self._timeout())
            self._expire(time.monotonic())
            self._ending = [one for one in self._ending if len(one)]
            if self._control.served and not (self._control or self._ports or self._ending):
                return

    def _expire(self, now: float) -> None:
        if now >= self._next_look:
            self._next_look = now + PAUSE_S
            for _, one in self._ports.values():
                one.expire(now)

    def _timeout(self) -> float:
        """Until something is to be done though nothing happens; -1 for ever."""
        served = [one for _, one in self._ports.values()]
        if any(isinstance(one, Listener) and one.paused for one in served):
            return PAUSE_S
        if any(isinstance(one, Datagrams) and len(one) for one in served):
            return LOOK_S
        return -1

    def _perform(self, line: bytes, sockets: list[int]) -> tuple[dict[str, Any], int]:
        """The answer to a request, and the descriptor that goes with it, -1 for none."""
        try:
            request = json.loads(line)
            verb = request["op"]
            if verb == "hello":
                ports = list(self._ports)
                return {"ok": True, "version": VERSION, "pid": os.getpid(), "ports": ports}, -1
            if verb == "put":
                self._put(request, _socket.socket(fileno=sockets.pop()))
            elif verb == "drop":
                self._drop(request["port"])
            elif verb == "give":
                return {"ok": True}, self._ports[request["port"]][0].fileno()
            elif verb == "leave":
                self._leaving = True
            else:
                return {"error": f"bad request: {verb!r}"}, -1
        except OSError as error:
            return {"error": error.strerror}, -1
        except (ValueError, LookupError, TypeError) as error:
            return {"error": f"bad request: {error!r}"}, -1
        return {"ok": True}, -1

    def _put(self, request: Mapping[str, Any], opened: _socket.socket) -> None:
        self._drop(request["port"])
        address, number = request["target"]
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        kind = Datagrams if opened.type == _socket.SOCK_DGRAM else Listener
        served = kind(self._watch, opened, family, (address, int(number)))
        self._ports[request["port"]] = opened, served

    def _drop(self, port: str) -> None:
        _, served = self._ports.pop(port, (None, None))
        if served is not None:
            served.close()
        if isinstance(served, Listener):
            self._ending.append(served)


def main(arguments: list[str]) -> int:
    """Serve on the listening socket that is standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the last port does
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Server(_socket.socket(fileno=os.dup(0))).run()
    return 0
