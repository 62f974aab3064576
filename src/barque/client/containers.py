"""Endpoints under /containers. Source: Engine API reference, "Container"."""

from __future__ import annotations

from barque import errors
from barque.client import json
from barque.client.http import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from barque.client.client import Client, Reply
    from barque.client.connection import OpenFile, Stream
    from barque.client.streams import Attached, Result

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
        return f"/containers/{named('container', container)}{rest}"

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

    def start(
        self,
        container: str,
        *,
        detach_keys: str = "",
        checkpoint: str = "",
        checkpoint_dir: str = "",
    ) -> None:
        given = {
            "detachKeys": detach_keys,
            "checkpoint": checkpoint,
            "checkpoint-dir": checkpoint_dir,
        }
        query = [(name, value) for name, value in given.items() if value]
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

    def begin_update(self, container: str, body: dict[str, Any]) -> Callable[[], Reply]:
        return self._client.send("POST", self._path(container, "/update"), body=body, fresh=True)

    def begin_stats(self, container: str, *, stream: bool) -> Callable[[], Reply]:
        """One sample, or one a second for as long as the container is there."""
        query = [("stream", "1" if stream else "0")]
        return self._client.send("GET", self._path(container, "/stats"), query, fresh=True)

    def rename(self, container: str, name: str) -> None:
        path = self._path(container, "/rename")
        self._client.request("POST", path, [("name", name)]).read()

    def checkpoint(
        self, container: str, name: str, *, directory: str = "", leave_running: bool = False
    ) -> None:
        """Save its processes by criu; `start` restores them. An experimental daemon can."""
        body = {"CheckpointID": name, "CheckpointDir": directory, "Exit": not leave_running}
        path = self._path(container, "/checkpoints")
        self._client.request("POST", path, body=body).read()

    def checkpoints(self, container: str, *, directory: str = "") -> Any:
        query = [("dir", directory)] if directory else []
        reply = self._client.request("GET", self._path(container, "/checkpoints"), query)
        return reply.json() or []

    def remove_checkpoint(self, container: str, name: str, *, directory: str = "") -> None:
        query = [("dir", directory)] if directory else []
        path = self._path(container, f"/checkpoints/{named('checkpoint', name)}")
        self._client.request("DELETE", path, query).read()

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

    def output(
        self,
        container: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
        timestamps: bool = False,
        tail: int | None = None,
        since: str = "",
        until: str = "",
    ) -> Iterator[tuple[int, bytes]]:
        """The log, as pairs of 1 (stdout) or 2 (stderr) and bytes; with `follow` to its end."""
        from barque.api.frames import FrameReader
        from barque.client.streams import MULTIPLEXED, parted

        query = flags(stdout=stdout, stderr=stderr, follow=follow, timestamps=timestamps)
        query += [] if tail is None else [("tail", str(tail))]
        query += [(name, text) for name, text in (("since", since), ("until", until)) if text]
        reply = self.logs(container, query)
        told = reply.headers.get("content-type", "")
        if told == MULTIPLEXED or (not told and not self._has_terminal(container)):
            return parted(reply.pieces(), FrameReader())
        return parted(reply.pieces(), None)

    def _has_terminal(self, container: str) -> bool:
        return bool(self.inspect(container)["Config"]["Tty"])

    def converse(self, container: str, *, stdin: bool = False, logs: bool = False) -> Attached:
        """Attach: what it writes from now on (with `logs`, has written too), and its input."""
        from barque.client.streams import MULTIPLEXED, Attached

        stream, early, told = self.attach(container, stdin=stdin, logs=logs)()
        multiplexed = told == MULTIPLEXED or not self._has_terminal(container)
        return Attached(stream, early, multiplexed)

    def run(self, body: dict[str, Any], *, name: str = "", stdin: bytes = b"") -> Result:
        """Create and start a container, give it `stdin`, wait for its end, remove it.

        `body` is that of `create`. Raises NotFound when the image is not there.
        """
        from barque.client.streams import Result, collected

        streams = {"AttachStdout": True, "AttachStderr": True, "AttachStdin": bool(stdin)}
        opened = {"OpenStdin": bool(stdin), "StdinOnce": bool(stdin)}
        container = self.create({**streams, **opened, **body}, name=name)["Id"]
        try:
            with self.converse(container, stdin=bool(stdin)) as attached:
                ended = self.begin_wait(container, "next-exit")
                self.start(container)
                if stdin:
                    attached.feed(stdin)
                out, err = collected(attached)
            return Result(int(ended().json()["StatusCode"]), out, err)
        finally:
            self.remove(container, force=True, volumes=True)

    def top(self, container: str, arguments: str = "") -> Any:
        query = [("ps_args", arguments)] if arguments else []
        return self._client.request("GET", self._path(container, "/top"), query).json()

    def prune(self, filters: Filters | None = None) -> Any:
        return self._client.request("POST", "/containers/prune", filters_query(filters)).json()

    def export(self, container: str) -> Iterator[bytes]:
        return self._client.request("GET", self._path(container, "/export")).pieces()

    def commit(
        self,
        container: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        changes: Iterable[str] = (),
        pause: bool = True,
    ) -> Any:
        """Returns {"Id": ...} of the new image."""
        given = {"repo": repository, "tag": tag, "author": author, "comment": comment}
        query = [("container", container), *((k, v) for k, v in given.items() if v)]
        query += [("changes", change) for change in changes]
        query += [] if pause else [("pause", "0")]
        return self._client.request("POST", "/commit", query, body={}).json()

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
