"""The resolver: one small single-threaded process that answers for all containers of an engine.

It outlives the daemon, so that names go on working while that restarts, and leaves when it serves
nobody and no daemon is connected. Its standard input is the listening control socket (a stream);
requests and answers are lines of JSON, one answer for each request, in order:

    {"op": "hello"}                       {"ok": true, "version": 1, "sandboxes": [ids]}
    {"op": "put", "sandbox": ID, "path": namespace, "servers": [[address, by host]], "places":
     [{"network", "network_name", "names", "addresses" (hex), "links", "ports"}]}
    {"op": "drop", "sandbox": ID}
    {"op": "leave"}                       it ends at once
    answers: {"ok": true} or {"error": "..."}

All may be sent again. A sandbox without places is known by nobody, but may ask.
"""

from __future__ import annotations

import _socket
import json
import os
import resource
import signal
import time

from barque.network.control import Control
from barque.network.dns.sandbox import Resolver
from barque.network.dns.upstream import Upstream
from barque.network.dns.zone import Place, Zone
from barque.network.readiness import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

VERSION: Final = 1
LINE_BYTES: Final = 1 << 20


class Server:
    def __init__(self, listening: _socket.socket) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._watch = Watch()
        self._zone = Zone()
        self._upstream = Upstream(self._watch, self._home, time.monotonic)
        self._resolvers: dict[str, Resolver] = {}
        self._leaving = False
        self._control = Control(self._watch, listening, self._perform, LINE_BYTES)

    def run(self) -> None:
        """Serve until nobody needs us."""
        while not self._leaving:
            self._watch.wait(self._upstream.timeout())
            self._upstream.expire()
            if self._control.served and not (self._control or self._resolvers):
                return

    def _perform(self, line: bytes, _descriptors: list[int]) -> tuple[dict[str, Any], int]:
        try:
            request = json.loads(line)
            return {"ok": True, **(self._verbs()[request["op"]](request) or {})}, -1
        except OSError as error:
            return {"error": f"{error.strerror}: {error.filename or ''}".rstrip(": ")}, -1
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"bad request: {error!r}"}, -1

    def _verbs(self) -> Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]]:
        return {"hello": self._hello, "put": self._put, "drop": self._drop, "leave": self._leave}

    def _hello(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": VERSION, "sandboxes": list(self._resolvers)}

    def _put(self, request: Mapping[str, Any]) -> None:
        sandbox, path = request["sandbox"], request["path"]
        places = [Place(document) for document in request["places"]]
        servers = [(address, by_host) for address, by_host in request["servers"]]
        resolver = self._resolvers.get(sandbox)
        if resolver is None:
            resolver = self._resolvers[sandbox] = Resolver(
                sandbox,
                path,
                zone=self._zone,
                watch=self._watch,
                upstream=self._upstream,
                home=self._home,
            )
        resolver.servers = servers
        self._zone.put(sandbox, places)
        self._changed()

    def _drop(self, request: Mapping[str, Any]) -> None:
        resolver = self._resolvers.pop(request["sandbox"], None)
        if resolver is not None:
            resolver.close()
        self._zone.drop(request["sandbox"])
        self._changed()

    def _leave(self, _request: Mapping[str, Any]) -> None:
        self._leaving = True

    def _changed(self) -> None:
        for resolver in self._resolvers.values():
            resolver.forget_answers()


def main(arguments: list[str]) -> int:
    """Serve on the listening socket that is standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the last container does
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Server(_socket.socket(fileno=os.dup(0))).run()
    return 0
