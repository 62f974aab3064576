"""`docker image rm --platform`: an image of several platforms loses some of them.

The name stays, and leads to the same index; what it has for a platform is no longer here.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.assemble import GC_CONTENT, Assembler
from barque.daemon.images.documents import (
    MAX_CONFIG_BYTES,
    SUBJECT_ANNOTATION,
    Documents,
    leaves,
    read_blob,
)
from barque.daemon.images.naming import Naming
from barque.daemon.images.remove import SHOWN_DIGITS, Remover, Users
from barque.daemon.images.store import Record, Store
from barque.oci import image as oci
from barque.oci.image import Descriptor, Manifest, Platform


class Thinner:
    def __init__(
        self,
        store: Store,
        documents: Documents,
        naming: Naming,
        assembler: Assembler,
        remover: Remover,
        users: Users,
    ) -> None:
        self._store, self._documents, self._naming = store, documents, naming
        self._assembler, self._remover, self._users = assembler, remover, users

    async def remove(
        self, text: str, platforms: Sequence[Platform], *, force: bool
    ) -> list[dict[str, str]]:
        """ImageDeleteResponseItems, digests of manifests; with the last platform the image goes.

        Raises NotFound for a platform that is not here, Conflict where a container uses it.
        """
        image_id, record = await self._naming.locate(text)
        record = record or self._naming.catalog.records_of(image_id)[0]
        here = await self._documents.others(record.target, "")
        if record.target.media_type not in oci.INDEXES:
            here = [await self._documents.manifest(record.target)]
        chosen = {}
        for platform in platforms:
            described, manifest = await self._of(text, here, platform)
            self._check_users(described, manifest, force=force)
            chosen[described.digest] = manifest
        if len(chosen) == len(here):
            return await self._remover.remove(text, force=force)
        await self._let_go(record.target, set(chosen))
        if any(manifest.config.digest == image_id for manifest in chosen.values()):
            await self._rename(record.target)
        return [{"Deleted": digest} for digest in chosen]

    async def _of(
        self, text: str, here: Sequence[tuple[Descriptor, Manifest]], platform: Platform
    ) -> tuple[Descriptor, Manifest]:
        for described, manifest in here:
            raw = await read_blob(self._store, manifest.config.digest, MAX_CONFIG_BYTES)
            own = described.platform or oci.parse_config(raw).platform
            if oci.matches(platform, own):
                return described, manifest
        raise errors.NotFound(f"No such image: {text} for platform {platform}")

    def _check_users(self, described: Descriptor, manifest: Manifest, *, force: bool) -> None:
        users = self._users(manifest.config.digest)
        stopping = [user for user in users if user.running or not force]
        if stopping:
            raise errors.Conflict(
                f"conflict: unable to delete {names.short(described.digest)} (must be forced) - "
                f"container {stopping[0].container_id[:SHOWN_DIGITS]} is using it"
            )

    async def _let_go(self, target: Descriptor, manifests: set[str]) -> None:
        """The indexes lead there no more, nor to what attests it; the bytes go if nobody else
        leads to them."""
        gone = set(manifests)
        for entry in await leaves(self._store, target):
            if entry.annotations.get(SUBJECT_ANNOTATION) in manifests:
                gone.add(entry.digest)
        for index in await self._documents.indexes(target):
            blob = await self._store.get_blob(index.digest)
            known = blob.labels if blob is not None else {}
            cut = {k: "" for k, v in known.items() if k.startswith(GC_CONTENT) and v in gone}
            if cut:
                await self._store.label_blob(index.digest, cut)
        for digest in gone - await self._elsewhere(target):
            await self._store.drop_blob(digest)

    async def _elsewhere(self, target: Descriptor) -> set[str]:
        """The manifests that names with another target lead to."""
        every = (
            record.target for _, records in self._naming.catalog.images() for record in records
        )
        others = {one.digest: one for one in every if one.digest != target.digest}
        found = set(others)
        for other in others.values():
            if other.media_type in oci.INDEXES:
                found |= {entry.digest for entry in await leaves(self._store, other)}
        return found

    async def _rename(self, target: Descriptor) -> None:
        """What was unpacked is gone: the names are of what is left."""
        described, manifest = await self._documents.manifest(target)
        raw = await read_blob(self._store, manifest.config.digest, MAX_CONFIG_BYTES)
        config = oci.parse_config(raw)
        async with self._store.lease() as lease:
            _, labels = await self._assembler.single(manifest, config, lease)
            labels[names.MANIFEST_LABEL] = described.digest
            for record in self._with_target(target):
                await self._naming.point(record.name, record.target, labels)

    def _with_target(self, target: Descriptor) -> list[Record]:
        every = (record for _, records in self._naming.catalog.images() for record in records)
        return [record for record in every if record.target.digest == target.digest]
