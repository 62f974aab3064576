"""Endpoints of the daemon as a whole. Source: Engine API reference, "System"."""

from __future__ import annotations

from barque.client.containers import filters_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from barque.client.client import Client, Reply

    Filters = dict[str, list[str]]


class System:
    def __init__(self, client: Client) -> None:
        self._client = client

    def ping(self) -> dict[str, str]:
        """The headers of the answer, names in lower case: api-version, ostype, swarm..."""
        reply = self._client.request("GET", "/_ping")
        reply.read()
        return reply.headers

    def version(self) -> Any:
        return self._client.request("GET", "/version").json()

    def info(self) -> Any:
        return self._client.request("GET", "/info").json()

    def auth(self, document: dict[str, str]) -> Any:
        """Ask a registry whether it takes an AuthConfig. Returns {"Status", "IdentityToken"}."""
        return self._client.request("POST", "/auth", body=document).json()

    def migrate(self) -> Any:
        """Carry over what other storage drivers hold: {"Driver", "Images", "Containers", "Failed"}.

        Ours, no endpoint of Docker's.
        """
        return self._client.request("POST", "/system/migrate").json()

    def doctor(self, *, repair: bool = False) -> list[dict[str, Any]]:
        """What is in disorder: [{"Check", "Object", "Problem", "Repaired"}].

        Ours, no endpoint of Docker's.
        """
        method = "POST" if repair else "GET"
        found: list[dict[str, Any]] = self._client.request(method, "/system/doctor").json()
        return found

    def events(self, *, since: str = "", until: str = "", filters: Filters | None = None) -> Reply:
        query = filters_query(filters)
        query += [("since", since)] if since else []
        query += [("until", until)] if until else []
        return self._client.request("GET", "/events", query, fresh=True)

    def watch(
        self, *, since: str = "", until: str = "", filters: Filters | None = None
    ) -> Iterator[dict[str, Any]]:
        """The events as they happen, to `until` or without end."""
        return self.events(since=since, until=until, filters=filters).documents()
