"""Containers that join and leave networks after they were created, running or not.

What a container's record says of networks decides at its next start; a running one changes at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque import errors
from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.containers.container import Container
from barque.daemon.networks import Networks


class Membership:
    def __init__(self, networks: Networks, catalogue: Catalogue) -> None:
        self._networks = networks
        self._catalogue = catalogue

    async def connect(self, reference: str, container: str, settings: Mapping[str, Any]) -> None:
        """Raises NotFound, Forbidden, InvalidArgument, Unsupported."""
        name = self._networks.name_of(reference)
        found = self._catalogue.find(container)
        async with found.lock:
            endpoints = self._endpoints(found)
            if self._networks.attached(found.id):
                await self._networks.connect(name, found.id, settings)
            else:
                self._check_stopped(found, endpoints, name)
                self._networks.asked("", {name: settings})
            self._save(found, {**endpoints, name: dict(settings)})

    def _check_stopped(self, found: Container, endpoints: Mapping[str, Any], name: str) -> None:
        if name in endpoints:
            raise errors.Forbidden(
                f"endpoint with name {found.name} already exists in network {name}"
            )
        for other in endpoints:
            self._networks.check_together(other, name)

    async def disconnect(self, reference: str, container: str, *, force: bool = False) -> None:
        """Raises NotFound, Forbidden. `force` is for drivers that do not answer: none of ours."""
        name = self._networks.name_of(reference)
        found = self._catalogue.find(container)
        async with found.lock:
            endpoints = self._endpoints(found)
            if self._networks.attached(found.id):
                await self._networks.disconnect(name, found.id)
            elif name not in endpoints:
                raise errors.Forbidden(f"container {found.id} is not connected to network {name}")
            endpoints.pop(name, None)
            self._save(found, endpoints or {"none": {}})

    def _endpoints(self, found: Container) -> dict[str, Any]:
        """By the networks' own names; `none` stands for no network at all and gives way."""
        mode = found.record.host.network_mode
        if mode.startswith("container:"):
            raise errors.Forbidden(
                "container sharing network namespace with another container or host cannot be "
                "connected to any other network"
            )
        named = found.record.endpoints or {mode: {}}
        if mode != "none" and list(named) == ["none"]:
            return {}
        return {self._networks.name_of(key): value for key, value in named.items()}

    def _save(self, found: Container, endpoints: dict[str, Any]) -> None:
        found.record.endpoints = endpoints
        self._catalogue.save_record(found)
