"""A volume plugin whose volumes are directories; it forgets nothing when it is started again."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.plugin_server import Request, serving

SOCKETS = Path("/run/docker/plugins")  # of every engine of this machine
MADE = "2021-02-03T04:05:06Z"


class Keeper:
    """The plugin `name`, on a socket in `sockets`.

    All engines of a machine see the same plugins: it lists its volumes only for processes that
    have `mine` in their command line.
    """

    def __init__(self, root: Path, sockets: Path = SOCKETS, mine: str = "") -> None:
        self.root = root
        self.mine = mine
        self.name = f"keeper{secrets.token_hex(4)}"
        self.options: dict[str, dict[str, str]] = {}
        self.users: dict[str, list[str]] = {}
        self.implements = ["VolumeDriver"]
        self.keeps = False  # whatever is said
        self.hangs = threading.Event()  # set: it answers
        self.hangs.set()
        self._sockets = sockets
        self._serving = ExitStack()

    def start(self) -> None:
        self._sockets.mkdir(parents=True, exist_ok=True)
        path = self._sockets / f"{self.name}.sock"
        self._serving.enter_context(serving(path, self._answer))

    def stop(self) -> None:
        self.hangs.set()
        self._serving.close()

    def make(self, volume: str, **options: str) -> None:
        """A volume of its own, which no engine asked for."""
        self.options[volume], self.users[volume] = options, []
        (self.root / volume).mkdir(exist_ok=True)

    def forget(self, volume: str) -> None:
        del self.options[volume], self.users[volume]

    def _document(self, volume: str) -> dict[str, Any]:
        point = str(self.root / volume) if self.users[volume] else ""
        status = {"users": len(self.users[volume])}
        return {"Name": volume, "Mountpoint": point, "CreatedAt": MADE, "Status": status}

    def _answer(self, asked: Request) -> dict[str, Any]:
        volume = asked.body.get("Name", "")
        if asked.method == "Plugin.Activate":
            return {"Implements": self.implements}
        self.hangs.wait(600)
        if asked.method == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if asked.method == "VolumeDriver.List":
            mine = self.mine.encode() in Path(f"/proc/{asked.caller}/cmdline").read_bytes()
            return {"Volumes": [self._document(name) for name in self.options if mine]}
        if asked.method == "VolumeDriver.Create":
            options = asked.body.get("Opts") or {}
            if options.get("colour") == "none":
                return {"Err": "a colour is wanted"}
            self.make(volume, **options)
            return {"Err": ""}
        if volume not in self.options:
            return {"Err": f"no volume {volume}"}
        return self._of(asked.method, volume, asked.body)

    def _of(self, method: str, volume: str, body: dict[str, Any]) -> dict[str, Any]:
        point = str(self.root / volume)
        if method == "VolumeDriver.Mount":
            self.users[volume].append(body["ID"])
            return {"Mountpoint": point}
        if method == "VolumeDriver.Unmount":
            self.users[volume].remove(body["ID"])
            return {"Err": ""}
        if method == "VolumeDriver.Remove" and self.keeps:
            return {"Err": f"{volume} is dear"}
        if method == "VolumeDriver.Remove":
            self.forget(volume)
            return {"Err": ""}
        if method == "VolumeDriver.Get":
            return {"Volume": self._document(volume)}
        return {"Mountpoint": point}
