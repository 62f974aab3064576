"""Volume plugins: other programs that keep volumes (Docker Engine volume plugin protocol, v1).

A plugin is found by its name (`plugin_places`). A request is a POST of JSON to `/VolumeDriver.X`;
an answer with `Err` is a failure. Synchronous.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from barque import errors
from barque.volume.plugin_places import SOCKETS, SPECS, Address, locate

IMPLEMENTS = "VolumeDriver"
TIMEOUT_S = 120.0
NO_METHOD = 404


class Plugin:
    """One volume plugin at `address`."""

    def __init__(self, name: str, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self._address = address
        self._timeout_s = timeout_s

    def call(self, method: str, **request: Any) -> dict[str, Any]:
        """Raises Unavailable when it does not answer, BarqueError with its own words.

        NotFound of a method that it does not have.
        """
        # Here: loading it takes a good part of the daemon's start, and few have a plugin.
        from barque.volume import plugin_wire

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
    address = locate(name, sockets, specs)
    if address is None:
        raise errors.NotFound(f'error looking up {what} plugin {name}: plugin "{name}" not found')
    plugin = Plugin(name, address, timeout_s)
    if implements not in (plugin.call("Plugin.Activate").get("Implements") or ()):
        raise errors.NotFound(f"plugin {name} does not implement {implements}")
    return plugin
