"""One repository at several registries: mirrors first, the registry itself last.

What one does not have, or does not tell, the next is asked for. Blobs begin at different mirrors,
so that a pull of several layers is served by several at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

from barque import errors
from barque.registry.repository import Fetched, Repository

Result = TypeVar("Result")
PASSED_ON = (
    errors.NotFound,
    errors.Unavailable,
    errors.Unauthorized,
    errors.Forbidden,
    errors.ResourceExhausted,
    errors.Unsupported,
)


class Source(Protocol):
    """What a pull needs of a repository: see `Repository`."""

    async def manifest(self, reference: str) -> Fetched: ...

    def blob(
        self, digest: str, size: int, offset: int = 0, *, checked: bool = True
    ) -> AsyncGenerator[bytes, None]: ...

    async def tags(self) -> list[str]: ...


class Mirrored:
    def __init__(self, mirrors: Sequence[Repository], origin: Repository) -> None:
        self._mirrors, self._origin = tuple(mirrors), origin

    async def manifest(self, reference: str) -> Fetched:
        return await self._first(lambda repository: repository.manifest(reference))

    async def tags(self) -> list[str]:
        """The registry's own, since a mirror has some of them; without it the first mirror's."""
        try:
            return await self._origin.tags()
        except errors.Unavailable:
            for mirror in self._mirrors:
                with suppress(*PASSED_ON):
                    return await mirror.tags()
            raise

    async def _first(self, ask: Callable[[Repository], Awaitable[Result]]) -> Result:
        for mirror in self._mirrors:
            try:
                return await ask(mirror)
            except PASSED_ON:
                continue
        return await ask(self._origin)

    async def blob(
        self, digest: str, size: int, offset: int = 0, *, checked: bool = True
    ) -> AsyncGenerator[bytes, None]:
        start = int(digest[-8:], 16) % len(self._mirrors)
        order = [*self._mirrors[start:], *self._mirrors[:start], self._origin]
        for repository in order:
            begun = False
            try:
                blob = repository.blob(digest, size, offset, checked=checked)
                async with aclosing(blob) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except PASSED_ON:
                if begun or repository is self._origin:
                    raise
