"""Volume plugins: other programs that keep volumes (Docker Engine volume plugin protocol, v1).

A plugin NAME is found by a socket `NAME.sock` (or `NAME/NAME.sock`), or by its address in a file
NAME.spec or NAME.json. A request is a POST of JSON to `/VolumeDriver.X`; an answer with `Err` is a
failure. Synchronous.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from barque import errors

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
NAME = re.compile(r"[a-z0-9A-Z][a-zA-Z0-9_.-]{0,127}\Z")  # a path component: CVE-2021-20206
IMPLEMENTS = "VolumeDriver"
TIMEOUT_S = 120.0
NO_METHOD = 404
_SUFFIX = re.compile(r"\.(sock|spec|json)\Z")


class Plugin:
    """One volume plugin at `address`: unix://PATH or tcp://HOST:PORT."""

    def __init__(self, name: str, address: str, timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self._address = address
        self._timeout_s = timeout_s

    def call(self, method: str, **request: Any) -> dict[str, Any]:
        """Raises Unavailable when it does not answer, BarqueError with its own words.

        NotFound of a method that it does not have.
        """
        # Here: loading it takes a good part of the daemon's start, and few have a plugin.
        from barque.volume import plugin_wire

        scheme = self._address.partition("://")[0]
        if scheme not in plugin_wire.SCHEMES:
            raise errors.Unsupported(
                f"plugin {self.name}: address {self._address} is not supported"
            )
        try:
            status, data = plugin_wire.post(
                self._address, f"/{method}", json.dumps(request), self._timeout_s
            )
            if status == NO_METHOD and b'"Err"' not in data:
                raise errors.NotFound(f'plugin "{self.name}" has no method {method}')
            found = json.loads(data or b"{}")
        except (OSError, ValueError) as error:
            raise errors.Unavailable(
                f'error while calling plugin "{self.name}": {method}: {error}'
            ) from error
        if not isinstance(found, dict):
            raise errors.Unavailable(f'plugin "{self.name}": {method}: no JSON object')
        if status != 200 or found.get("Err"):
            words = found.get("Err") or f"status {status}"
            raise errors.BarqueError(f"{method}: {words}")
        return found

    def create(self, volume: str, options: Mapping[str, str]) -> None:
        self.call("VolumeDriver.Create", Name=volume, Opts=dict(options))

    def remove(self, volume: str) -> None:
        self.call("VolumeDriver.Remove", Name=volume)

    def mount(self, volume: str, user: str) -> str:
        """The path on the host of a volume that `user` is about to use."""
        found = self.call("VolumeDriver.Mount", Name=volume, ID=user).get("Mountpoint")
        if not isinstance(found, str) or not found.startswith("/"):
            raise errors.BarqueError(f"VolumeDriver.Mount: plugin {self.name} gives no path")
        return found

    def unmount(self, volume: str, user: str) -> None:
        self.call("VolumeDriver.Unmount", Name=volume, ID=user)

    def path(self, volume: str) -> str:
        return str(self.call("VolumeDriver.Path", Name=volume).get("Mountpoint") or "")

    def get(self, volume: str) -> dict[str, Any]:
        """The plugin's own Volume: Name, Mountpoint, Status."""
        found = self.call("VolumeDriver.Get", Name=volume).get("Volume")
        return found if isinstance(found, dict) else {}

    def volumes(self) -> list[dict[str, Any]]:
        """What `get` gives, of every volume that has a name."""
        found = self.call("VolumeDriver.List").get("Volumes") or []
        if not isinstance(found, list):
            raise errors.BarqueError(f"VolumeDriver.List: plugin {self.name} gives no list")
        return [v for v in found if isinstance(v, dict) and isinstance(v.get("Name"), str)]

    def scope(self) -> str:
        """local, or global for volumes that every host of the plugin's sees."""
        try:
            found = self.call("VolumeDriver.Capabilities").get("Capabilities") or {}
        except errors.BarqueError:
            return "local"
        return "global" if str(found.get("Scope", "")).lower() == "global" else "local"


def find(
    name: str,
    sockets: Path = SOCKETS,
    specs: Sequence[Path] = SPECS,
    *,
    implements: str = IMPLEMENTS,
    what: str = "volume",
    timeout_s: float = TIMEOUT_S,
) -> Plugin:
    """The plugin `name`, asked whether it keeps volumes. Raises NotFound with Docker's words.

    `implements` is another protocol that it may be asked for, `what` is what that is about.
    """
    place = _place(name, sockets, specs)
    if place is None:
        raise errors.NotFound(f'error looking up {what} plugin {name}: plugin "{name}" not found')
    plugin = Plugin(name, _address(name, place), timeout_s)
    if implements not in (plugin.call("Plugin.Activate").get("Implements") or ()):
        raise errors.NotFound(f"plugin {name} does not implement {implements}")
    return plugin


def known(name: str, sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> bool:
    """Whether there is a plugin of that name, whatever it is for; it is not asked."""
    return _place(name, sockets, specs) is not None


def names(sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> list[str]:
    """Every plugin there is, whatever it is for; none is asked."""
    found: set[str] = set()
    for directory in (sockets, *specs):
        with suppress(FileNotFoundError, NotADirectoryError):
            found.update(_SUFFIX.sub("", entry) for entry in os.listdir(directory))
    return sorted(name for name in found if known(name, sockets, specs))


def _place(name: str, sockets: Path, specs: Sequence[Path]) -> Path | None:
    """The socket, or the file that has the address."""
    if not NAME.match(name):
        return None
    for path in (sockets / f"{name}.sock", sockets / name / f"{name}.sock"):
        if path.is_socket():
            return path
    for directory in specs:
        for suffix in (".spec", ".json"):
            for path in (directory / f"{name}{suffix}", directory / name / f"{name}{suffix}"):
                if path.is_file():
                    return path
    return None


def _address(name: str, place: Path) -> str:
    if place.suffix == ".sock":
        return f"unix://{place}"
    text = place.read_text(errors="replace").strip()
    if place.suffix == ".spec":
        return text
    try:
        document = json.loads(text)
        address, tls = document["Addr"], document.get("TLSConfig")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidArgument(f"plugin {name}: {place} has no address: {error}") from error
    if tls:
        raise errors.Unsupported(f"plugin {name}: TLSConfig of {place} is not supported")
    return str(address)
