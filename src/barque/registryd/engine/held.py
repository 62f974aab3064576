"""Blobs that were pushed and that no name leads to yet: held by leases, one repository's each.

A lease's resources are all that is known of them, so that a registry that starts again goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.leases import CONTENT, Lease, Resource

LIFETIME_S = 24 * 3600.0  # between the upload of a blob and the manifest that names it
RENEWED_S = LIFETIME_S / 2
OPERATION_LABEL = "io.barque.operation"
OPERATION = "registry"
NAME_LABEL = "io.barque.registry"


class Held:
    def __init__(self, containerd: Containerd, clock_s: Callable[[], float] = time.time) -> None:
        self._containerd, self._clock_s = containerd, clock_s
        self._leases: dict[str, list[Lease]] = {}  # of a repository, the newest last
        self._making = asyncio.Lock()

    async def recover(self) -> None:
        """Takes over what an earlier registry held."""
        found = await self._containerd.leases.list([f'labels."{OPERATION_LABEL}"=={OPERATION}'])
        for lease in sorted(found, key=lambda lease: lease.created_ns):
            self._leases.setdefault(lease.labels.get(NAME_LABEL, ""), []).append(lease)

    async def lease(self, name: str) -> str:
        """One that holds what comes now for long enough."""
        async with self._making:
            known = self._leases.setdefault(name, [])
            if not known or known[-1].created_ns / 1e9 < self._clock_s() - RENEWED_S:
                labels = {OPERATION_LABEL: OPERATION, NAME_LABEL: name}
                made = await self._containerd.leases.create(labels=labels, lifetime_s=LIFETIME_S)
                known.append(made)
            return known[-1].id

    async def digests(self, name: str) -> set[str]:
        """All that is held for a repository."""
        found = set()
        for lease in tuple(self._leases.get(name, ())):
            try:
                resources = await self._containerd.leases.resources(lease.id)
            except errors.NotFound:
                self._forget(name, lease)
            else:
                found |= {one.key for one in resources if one.kind == CONTENT}
        return found

    async def add(self, name: str, digest: str) -> bool:
        """False where there is no such blob any more."""
        for _ in range(2):
            lease = await self.lease(name)
            try:
                await self._containerd.leases.add(lease, Resource(CONTENT, digest))
                break
            except errors.NotFound:  # somebody took the lease away
                self._forget(name, self._leases[name][-1])
        try:
            await self._containerd.content.info(digest)
        except errors.NotFound:
            return False
        return True

    async def remove(self, name: str, digest: str) -> None:
        for lease in tuple(self._leases.get(name, ())):
            with suppress(errors.NotFound):
                await self._containerd.leases.remove(lease.id, Resource(CONTENT, digest))

    def _forget(self, name: str, lease: Lease) -> None:
        with suppress(KeyError, ValueError):
            self._leases[name].remove(lease)
