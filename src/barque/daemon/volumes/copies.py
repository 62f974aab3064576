"""Copies of volumes: snapshots and clones, backups as tar archives, and the way back.

A copy is made beside the volumes, synced, and gets its name, or takes the place of a volume's
data, in one step: after a crash there is all of it or nothing. Docker has none of this.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.archive.copier import Copier
from barque.daemon.containers.committing import still
from barque.daemon.containers.engine import Engine
from barque.daemon.http.messages import Source
from barque.daemon.volumes.records import LOCAL, new_record
from barque.daemon.volumes.service import Volumes
from barque.volume.local import COPIED
from barque.volume.paths import DATA

SNAPSHOT_LABEL = "barque.volume.snapshot-of"


class VolumeCopies:
    """`copier_argv` starts `barque-copyup`."""

    def __init__(self, volumes: Volumes, engine: Engine, copier_argv: Sequence[str]) -> None:
        self._volumes = volumes
        self._engine = engine
        self._copier_argv = list(copier_argv)

    async def clone(
        self,
        source: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        snapshot: bool = False,
        pause: bool = True,
    ) -> dict[str, Any]:
        """A new volume with what `source` has now; as a `snapshot` nobody can write to it.

        While it is copied, the containers that run with `source` are paused if asked for.
        Raises NotFound, Conflict, InvalidArgument.
        """
        labels = dict(labels or {})
        if snapshot:
            labels[SNAPSHOT_LABEL] = source
        options = self._volumes.quota_of(source) or None
        record = new_record(name, LOCAL, labels or None, options, read_only=snapshot)
        self._volumes.refuse_known(name)
        async with self._staged(record.size) as staged:
            async with self._reading(source, pause=pause) as path:
                await self._copy(path, staged / DATA, source)
            return await self._volumes.adopt(record, staged)

    async def restore_from(self, name: str, source: str) -> dict[str, Any]:
        """The volume `name`, made if it is missing, has what volume `source` has."""
        if name == source:
            raise errors.InvalidArgument(f"restore {name}: a volume cannot be its own source")
        size = self._check_target(name)
        async with self._staged(size) as staged:
            async with self._reading(source, pause=False) as path:
                await self._copy(path, staged / DATA, source)
            return await self._install(name, staged)

    async def backup(self, name: str, *, pause: bool = True) -> AsyncIterator[bytes]:
        """A tar archive of the volume. Raises NotFound before its first byte."""
        stack = AsyncExitStack()
        try:
            path = await stack.enter_async_context(self._reading(name, pause=pause))
            copier = await Copier.start(self._archive(path, name, "get"))
            stack.push_async_callback(copier.close)
            await copier.answer()
        except BaseException:
            await stack.aclose()
            raise
        return _chunks(stack, copier)

    async def restore(self, name: str, archive: Source) -> dict[str, Any]:
        """The volume `name`, made if it is missing, has what is in the tar `archive`."""
        size = self._check_target(name)
        async with self._staged(size) as staged:
            copier = await Copier.start(self._archive(str(staged / DATA), name, "put"))
            try:
                await copier.answer()
                await copier.feed(archive)
                await copier.answer()
            finally:
                await copier.close()
            return await self._install(name, staged)

    def _check_target(self, name: str) -> int:
        """How much it may hold, 0 for no limit."""
        if self._volumes.known(name):
            return self._volumes.check_replaceable(name).size
        return new_record(name).size

    async def _install(self, name: str, staged: Path) -> dict[str, Any]:
        if self._volumes.known(name):
            return await self._volumes.replace(name, staged)
        return await self._volumes.adopt(new_record(name), staged)

    @asynccontextmanager
    async def _staged(self, size: int = 0) -> AsyncIterator[Path]:
        """A place to fill; what is there at the end (nothing, or old data) is deleted."""
        staged = await asyncio.to_thread(self._volumes.stage, size)
        try:
            yield staged
        finally:
            await asyncio.shield(self._volumes.discard_staged(staged))

    @asynccontextmanager
    async def _reading(self, name: str, *, pause: bool) -> AsyncIterator[str]:
        async with AsyncExitStack() as stack:
            path = await stack.enter_async_context(self._volumes.reading(name))
            for user in self._volumes.users(name) if pause else ():
                try:
                    container = self._engine.catalogue.find(user)
                except errors.NotFound:  # removed meanwhile
                    continue
                await stack.enter_async_context(still(self._engine, container))
            yield path

    async def _copy(self, source: str, target: Path, name: str) -> None:
        request = {"layers": [source], "path": "/", "target": str(target), "held": True}
        process = await asyncio.create_subprocess_exec(
            *self._copier_argv, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            said = await process.stderr.read()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != COPIED:
            words = said.decode(errors="replace").strip().splitlines() or ["it was killed"]
            raise errors.BarqueError(f"volume {name} is not copied: {words[-1]}")

    def _archive(self, path: str, name: str, do: str) -> dict[str, Any]:
        """A request to `barque-archive`: the directory itself, nothing below or above it."""
        return {
            "do": do,
            "path": "/.",
            "id": name,
            "reference": name,
            "place": str(self._engine.paths.copying),
            "write": True,
            "layers": [path],
            "whole": True,
        }


async def _chunks(stack: AsyncExitStack, copier: Copier) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in copier.chunks():
            yield chunk
