"""Containers that join and leave networks after they were created, running or not.

What a container's record says of networks decides at its next start; a running one changes at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from barque import errors
from barque.daemon.containers import name_files
from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.containers.container import Container
from barque.daemon.networks.service import Networks
from barque.daemon.networks.texts import NameFiles
from barque.daemon.paths import Paths

log = logging.getLogger(__name__)


class Membership:
    def __init__(self, networks: Networks, catalogue: Catalogue, paths: Paths) -> None:
        self._networks = networks
        self._paths = paths
        self._catalogue = catalogue

    async def connect(self, reference: str, container: str, settings: Mapping[str, Any]) -> None:
        """Raises NotFound, Forbidden, Conflict, InvalidArgument, Unsupported."""
        name = self._networks.name_of(reference)
        found = self._catalogue.find(container)
        async with found.lock:
            found.refuse_when_gone()
            endpoints = self._endpoints(found)
            if self._networks.attached(found.id):
                before = self._name_files(found)
                await self._networks.connect(name, found.id, settings)
                self._tell(found, before)
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
        found = self._catalogue.find(container)
        name = self._disconnected(found, reference)
        async with found.lock:
            found.refuse_when_gone()
            endpoints = self._endpoints(found, gone=name)
            if self._networks.attached(found.id):
                before = self._name_files(found)
                await self._networks.disconnect(name, found.id)
                self._tell(found, before)
            elif name not in endpoints:
                raise errors.Forbidden(f"container {found.id} is not connected to network {name}")
            endpoints.pop(name, None)
            self._save(found, endpoints or {"none": {}})

    def _disconnected(self, found: Container, reference: str) -> str:
        """The network's name; a stopped container may leave one that has gone."""
        try:
            return self._networks.name_of(reference)
        except errors.NotFound:
            named = {found.record.host.network_mode, *found.record.endpoints}
            if reference not in named or self._networks.attached(found.id):
                raise
            return reference

    def _name_files(self, found: Container) -> NameFiles:
        host = found.record.host
        return self._networks.name_files(
            found.id,
            dns=host.dns or (),
            dns_search=host.dns_search or (),
            dns_options=host.dns_options or (),
        )

    def _tell(self, found: Container, before: NameFiles) -> None:
        """A full disk leaves its files as they are; it is in the network all the same."""
        try:
            name_files.follow(self._paths.container(found.id), before, self._name_files(found))
        except OSError as error:
            log.warning("hosts and resolv.conf of container %s: %s", found.name, error)

    def _endpoints(self, found: Container, *, gone: str = "") -> dict[str, Any]:
        """By the networks' own names; `none` stands for no network at all and gives way.

        `gone` may be the name of one that is no more.
        """
        mode = found.record.host.network_mode
        if mode.startswith("container:"):
            raise errors.Forbidden(
                "container sharing network namespace with another container or host cannot be "
                "connected to any other network"
            )
        named = found.record.endpoints or {mode: {}}
        if mode != "none" and list(named) == ["none"]:
            return {}
        return {
            key if key == gone else self._networks.name_of(key): value
            for key, value in named.items()
        }

    def _save(self, found: Container, endpoints: dict[str, Any]) -> None:
        before, found.record.endpoints = found.record.endpoints, endpoints
        try:
            self._catalogue.save_record(found)
        except BaseException:
            found.record.endpoints = before
            raise
