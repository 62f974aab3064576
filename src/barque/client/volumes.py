"""Endpoints under /volumes. Source: Engine API reference, "Volume"."""

from __future__ import annotations

from barque.client import json
from barque.client.containers import filters_query, flags
from barque.client.http import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from barque.client.client import Client

    Filters = dict[str, list[str]]


class Volumes:
    def __init__(self, client: Client) -> None:
        self._client = client

    def _path(self, volume: str, rest: str = "") -> str:
        return f"/volumes/{named('volume', volume)}{rest}"

    def list(self, filters: Filters | None = None) -> Any:
        """Returns {"Volumes": [...] or None, "Warnings": ...}."""
        return self._client.request("GET", "/volumes", filters_query(filters)).json()

    def inspect(self, name: str) -> Any:
        return json.loads(self.inspect_raw(name))

    def inspect_raw(self, name: str) -> bytes:
        return self._client.request("GET", self._path(name)).read()

    def create(self, body: dict[str, Any]) -> Any:
        return self._client.request("POST", "/volumes/create", body=body).json()

    def remove(self, name: str, *, force: bool = False) -> None:
        self._client.request("DELETE", self._path(name), flags(force=force)).read()

    def prune(self, filters: Filters | None = None) -> Any:
        """Returns {"VolumesDeleted", "SpaceReclaimed"}."""
        return self._client.request("POST", "/volumes/prune", filters_query(filters)).json()

    def clone(
        self,
        name: str,
        copy: str,
        *,
        labels: dict[str, str] | None = None,
        snapshot: bool = False,
        pause: bool = True,
    ) -> Any:
        """A new volume `copy` with what `name` has now. Barque's own: Docker has no copies."""
        body = {"Name": copy, "Labels": labels or {}, "Snapshot": snapshot, "Pause": pause}
        return self._client.request("POST", self._path(name, "/clone"), body=body).json()

    def backup(self, name: str, *, pause: bool = True) -> Iterator[bytes]:
        """A tar archive of the volume. Barque's own."""
        query = [] if pause else [("pause", "0")]
        return self._client.request("GET", self._path(name, "/archive"), query).pieces()

    def restore(self, name: str, content: Iterable[bytes]) -> Any:
        """The volume has what is in the tar archive, and nothing else. Barque's own."""
        target = self._path(name, "/archive")
        return self._client.request("PUT", target, stream=content, fresh=True).json()

    def restore_from(self, name: str, source: str) -> Any:
        """The volume has what the volume `source` has, and nothing else. Barque's own."""
        target = self._path(name, "/archive")
        return self._client.request("PUT", target, [("from", source)]).json()
