"""Endpoints of exec, another process in a container. Source: Engine API reference, "Exec"."""

from __future__ import annotations

from barque.client.http import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from barque.client.client import Client, Reply
    from barque.client.connection import Stream
    from barque.client.streams import Result


class Execs:
    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, container: str, body: dict[str, Any]) -> str:
        """Returns the id of the exec."""
        path = f"/containers/{named('container', container)}/exec"
        document = self._client.request("POST", path, body=body).json()
        return str(document["Id"])

    def start_detached(self, exec_id: str) -> None:
        body = {"Detach": True, "Tty": False}
        self._client.request("POST", f"/exec/{exec_id}/start", body=body).read()

    def start(self, exec_id: str, body: dict[str, Any]) -> Callable[[], tuple[Stream, bytes, str]]:
        return self._client.hijack(f"/exec/{exec_id}/start", body=body)

    def inspect(self, exec_id: str) -> Any:
        return self._client.request("GET", f"/exec/{exec_id}/json").json()

    def kill(self, exec_id: str, signal: str = "") -> None:
        """Barque's own. A signal to it and to what it started; without a word SIGKILL, after which
        all of that has ended."""
        self.begin_kill(exec_id, signal)().read()

    def begin_kill(self, exec_id: str, signal: str = "") -> Callable[[], Reply]:
        query = [("signal", signal)] if signal else []
        return self._client.send("POST", f"/exec/{named('exec', exec_id)}/kill", query, fresh=True)

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        query = [("h", str(rows)), ("w", str(columns))]
        self._client.request("POST", f"/exec/{exec_id}/resize", query).read()

    def run(
        self,
        container: str,
        command: list[str],
        *,
        stdin: bytes = b"",
        options: dict[str, Any] | None = None,
    ) -> Result:
        """Run a program in a container to its end. `options` are further keys of the body of
        `create`: Env, User, WorkingDir, Privileged, Tty."""
        from barque.client.streams import Attached, Result, collected

        streams = {"AttachStdout": True, "AttachStderr": True, "AttachStdin": bool(stdin)}
        exec_id = self.create(container, {"Cmd": command, **streams, **(options or {})})
        terminal = bool((options or {}).get("Tty"))
        stream, early, _ = self.start(exec_id, {"Detach": False, "Tty": terminal})()
        with Attached(stream, early, not terminal) as attached:
            if stdin:
                attached.feed(stdin)
            out, err = collected(attached)
        return Result(int(self.inspect(exec_id)["ExitCode"]), out, err)
