"""Endpoints under /networks. Source: Engine API reference, "Network"."""

from __future__ import annotations

from barque.client import json
from barque.client.containers import filters_query, flags
from barque.client.http import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.client.client import Client

    Filters = dict[str, list[str]]


class Networks:
    """`network` is an id, the beginning of one, or a name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _path(self, network: str, rest: str = "") -> str:
        return f"/networks/{named('network', network)}{rest}"

    def list(self, filters: Filters | None = None) -> Any:
        return self._client.request("GET", "/networks", filters_query(filters)).json()

    def inspect(self, network: str) -> Any:
        return json.loads(self.inspect_raw(network))

    def inspect_raw(self, network: str, *, verbose: bool = False) -> bytes:
        return self._client.request("GET", self._path(network), flags(verbose=verbose)).read()

    def create(self, body: dict[str, Any]) -> Any:
        """Returns {"Id", "Warning"}."""
        return self._client.request("POST", "/networks/create", body=body).json()

    def remove(self, network: str) -> None:
        self._client.request("DELETE", self._path(network)).read()

    def connect(self, network: str, container: str, endpoint: dict[str, Any]) -> None:
        body = {"Container": container, "EndpointConfig": endpoint}
        self._client.request("POST", self._path(network, "/connect"), body=body).read()

    def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self._client.request("POST", self._path(network, "/disconnect"), body=body).read()

    def prune(self, filters: Filters | None = None) -> Any:
        """Returns {"NetworksDeleted"}."""
        return self._client.request("POST", "/networks/prune", filters_query(filters)).json()
