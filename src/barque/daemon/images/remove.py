"""`docker rmi` and `docker image prune`: names go first, the image with its last name.

What a removed image held is freed by containerd's collector; a container made from it keeps its
layers, for its own snapshot lies on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from barque import errors
from barque.daemon import moments
from barque.daemon.images import names
from barque.daemon.images.listing import Listing, Summary, boolean, has_label
from barque.daemon.images.naming import Naming
from barque.daemon.images.store import Record

PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})
SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class User:
    """A container that was made from an image."""

    container_id: str
    running: bool


Users = Callable[[str], Sequence[User]]  # by image id


class Remover:
    def __init__(self, naming: Naming, listing: Listing, users: Users) -> None:
        self._naming, self._listing, self._users = naming, listing, users

    async def remove(self, text: str, *, force: bool) -> list[dict[str, str]]:
        """ImageDeleteResponseItems. Raises Conflict in Docker's words; events: untag, delete."""
        image_id, record = await self._naming.locate(text)
        image = await self._listing.summary(image_id)
        if record is None:
            return await self._by_id(image, force=force)
        return await self._by_name(image, record, force=force)

    async def _by_name(
        self, image: Summary, record: Record, *, force: bool
    ) -> list[dict[str, str]]:
        others = [other for other in image.records if other.name != record.name]
        if any(not _is_digest_of(other.name, record.name) for other in others):
            return await self._untag(image, [record], last=False)
        users = self._users(image.id)
        if users and not force:
            shown = names.display(record.name)
            raise errors.Conflict(
                f'conflict: unable to remove repository reference "{shown}" (must force) - '
                f"container {users[0].container_id[:SHOWN_DIGITS]} is using its referenced image "
                f"{names.short(image.id)}"
            )
        if any(user.running for user in users):  # only the name goes: the image is kept, dangling
            dangling = names.dangling_name(record.target.digest)
            await self._naming.point(dangling, record.target, record.labels)
            return await self._untag(image, [record], last=False)
        return await self._untag(image, image.records, last=True)

    async def _by_id(self, image: Summary, *, force: bool) -> list[dict[str, str]]:
        short = names.short(image.id)
        if len({_repository(r.name) for r in image.records}) > 1 and not force:
            raise errors.Conflict(
                f"conflict: unable to delete {short} (must be forced) - "
                "image is referenced in multiple repositories"
            )
        for user in self._users(image.id):
            shown = user.container_id[:SHOWN_DIGITS]
            if user.running:
                raise errors.Conflict(
                    f"conflict: unable to delete {short} (cannot be forced) - "
                    f"image is being used by running container {shown}"
                )
            if not force:
                raise errors.Conflict(
                    f"conflict: unable to delete {short} (must be forced) - "
                    f"image is being used by stopped container {shown}"
                )
        return await self._untag(image, image.records, last=True)

    async def _untag(
        self, image: Summary, records: Sequence[Record], *, last: bool
    ) -> list[dict[str, str]]:
        """Takes names away; with the last of them the image is gone."""
        before = self._naming.catalog.names_of(image.id)
        for record in records:
            is_final = last and record is records[-1]
            await self._naming.remove(record.name, collect=is_final)
            if not names.is_dangling(record.name):
                self._naming.announce("untag", image.id, image.id, image.labels)
        after = self._naming.catalog.names_of(image.id)
        gone = [tag for tag in before.tags if tag not in after.tags]
        gone += [digest for digest in before.digests if digest not in after.digests]
        lines = [{"Untagged": name} for name in gone]
        if last:
            self._naming.announce("delete", image.id, image.id, image.labels)
            lines.append({"Deleted": image.id})
        return lines

    async def prune(
        self,
        filters: Mapping[str, Sequence[str]],
        clock_s: Callable[[], float] = time.time,
    ) -> dict[str, Any]:
        """Removes dangling images, or with `dangling=false` all that no container uses."""
        for name in filters:
            if name not in PRUNE_FILTERS:
                raise errors.InvalidArgument(f"invalid filter '{name}'")
        chosen = [
            summary
            for summary in await self._listing.summaries()
            if _prunable(summary, filters, clock_s()) and not self._users(summary.id)
        ]
        deleted: list[dict[str, str]] = []
        for number, summary in enumerate(chosen, start=1):
            deleted += await self._drop(summary, collect=number == len(chosen))
        reclaimed = sum(summary.size for summary in chosen)
        self._naming.announce_prune(reclaimed)
        return {"ImagesDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    async def _drop(self, summary: Summary, *, collect: bool) -> list[dict[str, str]]:
        for record in summary.records:
            final = collect and record is summary.records[-1]
            await self._naming.remove(record.name, collect=final)
            if not names.is_dangling(record.name):
                self._naming.announce("untag", summary.id, summary.id, summary.labels)
        self._naming.announce("delete", summary.id, summary.id, summary.labels)
        gone = [*summary.names.tags, *summary.names.digests]
        return [*({"Untagged": name} for name in gone), {"Deleted": summary.id}]


def _prunable(summary: Summary, filters: Mapping[str, Sequence[str]], now_s: float) -> bool:
    dangling = filters.get("dangling")
    if (not dangling or boolean("dangling", dangling)) and not summary.dangling:
        return False
    if not all(has_label(summary.labels, wanted) for wanted in filters.get("label", ())):
        return False
    if any(has_label(summary.labels, wanted) for wanted in filters.get("label!", ())):
        return False
    limits = filters.get("until", ())
    return all(summary.created_s < moments.until(limit, now_s) for limit in limits)


def _is_digest_of(name: str, other: str) -> bool:
    """Whether `name` is by digest and of the same repository: it goes with the last tag there."""
    is_digest = "@" in name and not names.is_dangling(name)
    return is_digest and "@" not in other and _repository(name) == _repository(other)


def _repository(name: str) -> str:
    """A name without its tag or digest."""
    if names.is_dangling(name):
        return names.DANGLING
    head, _, last = name.partition("@")[0].rpartition("/")
    return f"{head}/{last.partition(':')[0]}"
