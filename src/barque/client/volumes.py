"""Endpoints under /volumes. Source: Engine API reference, "Volume"."""

from __future__ import annotations

from barque.client import json
from barque.client.containers import filters_query, flags
from barque.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.client.client import Client

    Filters = dict[str, list[str]]


class Volumes:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, filters: Filters | None = None) -> Any:
        """Returns {"Volumes": [...] or None, "Warnings": ...}."""
        return self._client.request("GET", "/volumes", filters_query(filters)).json()

    def inspect(self, name: str) -> Any:
        return json.loads(self.inspect_raw(name))

    def inspect_raw(self, name: str) -> bytes:
        return self._client.request("GET", f"/volumes/{quote(name)}").read()

    def create(self, body: dict[str, Any]) -> Any:
        return self._client.request("POST", "/volumes/create", body=body).json()

    def remove(self, name: str, *, force: bool = False) -> None:
        self._client.request("DELETE", f"/volumes/{quote(name)}", flags(force=force)).read()

    def prune(self, filters: Filters | None = None) -> Any:
        """Returns {"VolumesDeleted", "SpaceReclaimed"}."""
        return self._client.request("POST", "/volumes/prune", filters_query(filters)).json()
