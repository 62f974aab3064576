"""Endpoints under /containers. Source: Engine API reference, "Container"."""

from __future__ import annotations

from barque import errors
from barque.client import json
from barque.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from barque.client.client import Client, Reply
    from barque.client.connection import OpenFile, Stream

    Filters = dict[str, list[str]]
    Pairs = list[tuple[str, str]]
    Hijacked = Callable[[], tuple[Stream, bytes, str]]


def filters_query(filters: Filters | None) -> list[tuple[str, str]]:
    """Filters as every version of the API takes them: {"key": {"value": true}}."""
    if not filters:
        return []
    wire = {key: dict.fromkeys(values, True) for key, values in filters.items()}
    return [("filters", json.dumps(wire))]


def flags(**values: bool) -> list[tuple[str, str]]:
    """The true ones as name=1."""
    return [(name, "1") for name, value in values.items() if value]


class Containers:
    """`container` is an id, the beginning of one, or a name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _path(self, container: str, rest: str = "") -> str:
        return f"/containers/{quote(container)}{rest}"

    def _post(self, container: str, rest: str, query: Pairs) -> Callable[[], Reply]:
        return self._client.send("POST", self._path(container, rest), query, fresh=True)

    def create(self, body: dict[str, Any], *, name: str = "", platform: str = "") -> Any:
        """Returns {"Id", "Warnings"}."""
        query = [("name", name)] if name else []
        if platform:
            query.append(("platform", platform))
        return self._client.request("POST", "/containers/create", query, body=body).json()

    def list(
        self,
        *,
        all: bool = False,
        limit: int = 0,
        size: bool = False,
        filters: Filters | None = None,
    ) -> Any:
        query = flags(all=all, size=size) + filters_query(filters)
        if limit > 0:
            query.append(("limit", str(limit)))
        return self._client.request("GET", "/containers/json", query).json()

    def inspect(self, container: str, *, size: bool = False) -> Any:
        return json.loads(self.inspect_raw(container, size=size))

    def inspect_raw(self, container: str, *, size: bool = False) -> bytes:
        return self._client.request("GET", self._path(container, "/json"), flags(size=size)).read()

    def start(self, container: str, *, detach_keys: str = "") -> None:
        query = [("detachKeys", detach_keys)] if detach_keys else []
        self._client.request("POST", self._path(container, "/start"), query, fresh=True).read()

    def stop(self, container: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        self.begin_stop(container, timeout_s=timeout_s, signal=signal)().read()

    def restart(self, container: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        self.begin_restart(container, timeout_s=timeout_s, signal=signal)().read()

    def kill(self, container: str, signal: str = "") -> None:
        self.begin_kill(container, signal)().read()

    def pause(self, container: str) -> None:
        self.begin_pause(container)().read()

    def unpause(self, container: str) -> None:
        self.begin_unpause(container)().read()

    def remove(
        self, container: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        self.begin_remove(container, force=force, volumes=volumes, link=link)().read()

    def wait(self, container: str, condition: str = "") -> Any:
        """Returns {"StatusCode", "Error"} when `condition` is met: "not-running" (which "" means),
        "next-exit" or "removed"."""
        return self.begin_wait(container, condition)().json()

    # Sent at once; calling the result waits for the answer. So many are under way at one time.

    def begin_stop(
        self, container: str, *, timeout_s: int | None = None, signal: str = ""
    ) -> Callable[[], Reply]:
        return self._post(container, "/stop", _ending(timeout_s, signal))

    def begin_restart(
        self, container: str, *, timeout_s: int | None = None, signal: str = ""
    ) -> Callable[[], Reply]:
        return self._post(container, "/restart", _ending(timeout_s, signal))

    def begin_kill(self, container: str, signal: str = "") -> Callable[[], Reply]:
        return self._post(container, "/kill", [("signal", signal)] if signal else [])

    def begin_pause(self, container: str) -> Callable[[], Reply]:
        return self._post(container, "/pause", [])

    def begin_unpause(self, container: str) -> Callable[[], Reply]:
        return self._post(container, "/unpause", [])

    def begin_remove(
        self, container: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> Callable[[], Reply]:
        query = flags(force=force, v=volumes, link=link)
        return self._client.send("DELETE", self._path(container), query, fresh=True)

    def begin_wait(self, container: str, condition: str = "") -> Callable[[], Reply]:
        return self._post(container, "/wait", [("condition", condition)] if condition else [])

    def rename(self, container: str, name: str) -> None:
        path = self._path(container, "/rename")
        self._client.request("POST", path, [("name", name)]).read()

    def attach(
        self,
        container: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> Hijacked:
        query = flags(stdin=stdin, stdout=stdout, stderr=stderr, logs=logs, stream=True)
        if detach_keys:
            query.append(("detachKeys", detach_keys))
        return self._client.hijack(self._path(container, "/attach"), query)

    def resize(self, container: str, rows: int, columns: int) -> None:
        query = [("h", str(rows)), ("w", str(columns))]
        self._client.request("POST", self._path(container, "/resize"), query).read()

    def logs(self, container: str, query: Pairs) -> Reply:
        """The raw or multiplexed stream, as the container has a terminal or not."""
        return self._client.request("GET", self._path(container, "/logs"), query, fresh=True)

    def top(self, container: str, arguments: str = "") -> Any:
        query = [("ps_args", arguments)] if arguments else []
        return self._client.request("GET", self._path(container, "/top"), query).json()

    def prune(self, filters: Filters | None = None) -> Any:
        return self._client.request("POST", "/containers/prune", filters_query(filters)).json()

    def export(self, container: str) -> Iterator[bytes]:
        return self._client.request("GET", self._path(container, "/export")).pieces()

    def path_stat(self, container: str, path: str) -> Any:
        """What is at `path` in a container: name, size, mode (Go's), mtime, linkTarget; None: no
        such file."""
        query, target = [("path", path)], self._path(container, "/archive")
        self._client.settle()  # a refusal of our version would have no body to tell it by
        try:
            reply = self._client.request("HEAD", target, query)
        except errors.NotFound:
            return None
        reply.read()
        return _path_stat(reply)

    def archive(self, container: str, path: str) -> tuple[Any, Iterator[bytes]]:
        """`path_stat` of what is there, and a tar of it."""
        query, target = [("path", path)], self._path(container, "/archive")
        reply = self._client.request("GET", target, query, fresh=True)
        return _path_stat(reply), reply.pieces()

    def extract(
        self,
        container: str,
        path: str,
        content: Iterable[bytes | OpenFile],
        *,
        copy_owner: bool = False,
    ) -> None:
        """Unpack a tar in the directory `path` of a container. A directory is not replaced by
        something else, nor something else by a directory."""
        query = [("noOverwriteDirNonDir", "true"), ("path", path)]
        query += [("copyUIDGID", "true")] if copy_owner else []
        target = self._path(container, "/archive")
        self._client.request("PUT", target, query, stream=content, fresh=True).read()

    def changes(self, container: str) -> Any:
        return self._client.request("GET", self._path(container, "/changes")).json()


def _path_stat(reply: Reply) -> Any:
    from binascii import a2b_base64

    return json.loads(a2b_base64(reply.headers.get("x-docker-container-path-stat", "")))


def _ending(timeout_s: int | None, signal: str) -> list[tuple[str, str]]:
    query = [] if timeout_s is None else [("t", str(timeout_s))]
    return [*query, ("signal", signal)] if signal else query
