"""The images of the engine: what routes and the containers service call.

The parts are beside this module; here they are put together, and nothing is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from barque import errors
from barque.daemon.events import Events
from barque.daemon.images import (
    disk_usage,
    distribution,
    listing,
    manifests,
    names,
    remote_manifests,
    search,
)
from barque.daemon.images import inspect as inspecting
from barque.daemon.images.archive.load import Loader
from barque.daemon.images.archive.save import Saver
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.attestations import Attestations
from barque.daemon.images.commit import Committed, Committer
from barque.daemon.images.documents import Documents
from barque.daemon.images.image import Image
from barque.daemon.images.importing import Importer, download
from barque.daemon.images.layers import Layers
from barque.daemon.images.listing import Listing
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import Progress
from barque.daemon.images.pull import MAX_CONCURRENT_DOWNLOADS, Puller
from barque.daemon.images.push import MAX_CONCURRENT_UPLOADS, Pusher
from barque.daemon.images.remove import Remover, Users
from barque.daemon.images.store import Store
from barque.daemon.images.thin import Thinner
from barque.daemon.images.unpack import Unpacker
from barque.daemon.images.verify import Verifier
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import Descriptor, Platform
from barque.oci.reference import Reference
from barque.registry import (
    Credentials,
    Policy,
    Repository,
    Source,
    Transport,
    addresses,
    open_repository,
)

log = logging.getLogger(__name__)


class Images:
    """One for each daemon. `users` tells which containers were made from an image, by its id."""

    def __init__(
        self,
        store: Store,
        events: Events,
        users: Users,
        policy: Policy | None = None,
        machine: str = "",
        concurrent_downloads: int = MAX_CONCURRENT_DOWNLOADS,
        concurrent_uploads: int = MAX_CONCURRENT_UPLOADS,
        user_agent: str = "barque",
    ) -> None:
        host = oci.host_platform(machine or os.uname().machine)
        self._store, self._users = store, users
        self._following: asyncio.Task[None] | None = None
        self._transport = Transport(policy or Policy(), user_agent)
        self._documents = Documents(store, host)
        self._naming = Naming(store, self._documents, events)
        self._unpacker = Unpacker(store)
        self._listing = Listing(self._naming, self._documents)
        self._remover = Remover(self._naming, self._listing, users)
        assembler = self._assembler = Assembler(store, self._unpacker)
        self._attestations = Attestations(store)
        self._verifier = Verifier(store, self._naming, assembler)
        self._thinner = Thinner(
            store, self._documents, self._naming, assembler, self._remover, users
        )
        self._layers = Layers(store, self._documents)
        self._committer = Committer(store, assembler, self._naming, host)
        self._importer = Importer(store, self._unpacker, assembler, self._naming, host)
        self._loader = Loader(store, assembler, self._naming, self._documents)
        self._saver = Saver(store, self._naming, self._documents)
        self._puller = Puller(
            store,
            self._unpacker,
            assembler,
            self._naming,
            self._transport,
            host,
            concurrent_downloads,
        )
        self._pusher = Pusher(
            store, self._naming, self._documents, self._transport, concurrent_uploads
        )

    async def start(self) -> None:
        """Gives up what an earlier daemon had under way, and reads all names.

        From then on it follows what others do to them, until `close`.
        """
        await self._store.recover()
        changes = self._store.changes()
        await anext(changes)
        await self._naming.load()
        self._following = asyncio.create_task(self._follow(changes))

    async def _follow(self, changes: AsyncGenerator[str | None, None]) -> None:
        async with aclosing(changes):
            async for name in changes:
                try:
                    await (self._naming.reload() if name is None else self._naming.refresh(name))
                except errors.BarqueError as error:  # the watch itself tells when it is over
                    log.warning("images changed, but how cannot be read: %s", error)

    def reload(self, policy: Policy, concurrent_downloads: int, concurrent_uploads: int) -> None:
        """What registries are trusted, and how much is pulled and pushed at once, from the next
        pull or push on."""
        self._transport.policy = policy
        self._puller.limit(concurrent_downloads)
        self._pusher.limit(concurrent_uploads)

    def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._transport.close()

    def count(self) -> int:
        return len(self._naming.catalog)

    async def resolve(self, text: str) -> Image:
        """The image of a name, an id, or the beginning of an id. Raises NotFound in Docker's words.

        Costs no question to containerd for a name or id that was asked for before.
        """
        return await self._naming.resolve(text)

    async def names_of(self, image_id: str) -> names.Names:
        return (await self._naming.load()).names_of(image_id)

    async def ensure_unpacked(self, image: Image) -> None:
        """Makes the snapshots of an image that lacks them, one that others put into containerd."""
        async with self._store.lease() as lease:
            if image.chain_id and await self._store.has_snapshot(image.chain_id, lease):
                return
            labels = await self._unpacked(image, lease)
            for record in (await self._naming.load()).records_of(image.id):
                await self._naming.point(record.name, record.target, labels)

    async def _unpacked(self, image: Image, lease: str) -> dict[str, str]:
        """Its snapshots, kept with it; what its records are to say."""
        found, manifest = await self._documents.manifest(image.target)
        config = oci.parse_config(image.raw_config)
        await self._unpacker.image(manifest, config, lease)
        await self._assembler.config(config, lease)
        return await self._assembler.labels(found.digest, manifest, config)

    async def hidden(self) -> list[str]:
        """The names in the store that belong to other storage drivers."""
        return [record.name for record in await self._store.list_hidden()]

    async def carry_over(self, name: str) -> None:
        """A hidden name is of our storage driver too; its image is unpacked. Raises NotFound."""
        found = [record for record in await self._store.list_hidden() if record.name == name]
        if not found:
            raise errors.NotFound(f"No such image: {name}")
        (record,) = found
        image = await self._documents.image(record, names.display(name))
        async with self._store.lease() as lease:
            labels = await self._unpacked(image, lease)
            await self._naming.point(name, record.target, {**record.labels, **labels})

    async def pull(
        self,
        repository: str,
        tag: str,
        platform: Platform | None,
        credentials: Credentials,
        progress: Progress,
    ) -> None:
        """`tag` may be a digest; "" is every tag, as the Engine API has it."""
        ref = reference_of(repository, tag)
        if tag or ref.tag or ref.digest:
            await self._puller.run(ref, platform, credentials, progress)
            return
        for each in await self._puller.repository(ref, credentials).tags():
            await self._puller.run(reference_of(repository, each), platform, credentials, progress)

    async def distribution(self, text: str, credentials: Credentials) -> dict[str, Any]:
        """What the registry of `text` says of it, without a pull."""
        ref = reference.parse(text).with_default_tag()
        return await distribution.inspect(self._puller.repository(ref, credentials), ref)

    async def remote_manifest(self, text: str, credentials: Credentials) -> dict[str, Any]:
        """A manifest or index as its registry has it, with its bytes."""
        return await remote_manifests.read(self._opener(credentials), text)

    async def push_manifest_list(
        self, text: str, raw: bytes, sources: Sequence[str], credentials: Credentials
    ) -> str:
        """Its digest. `sources`: references of what it lists, in the same registry."""
        return await remote_manifests.push(self._opener(credentials), text, raw, sources)

    def _opener(self, credentials: Credentials) -> remote_manifests.Open:
        def opened(ref: Reference) -> Repository:
            return open_repository(
                self._transport, ref.domain, ref.path, ref.familiar_name, credentials
            )

        return opened

    async def search(
        self,
        term: str,
        limit: int,
        filters: Mapping[str, Sequence[str]],
        credentials: Credentials,
    ) -> list[dict[str, Any]]:
        """What an index of images finds, Docker Hub's where the term names none."""
        return await search.search(self._transport, term, limit, filters, credentials)

    async def authenticate(self, server: str, credentials: Credentials) -> None:
        """Raises Unauthorized when the registry does not take them. "" is Docker Hub."""
        await self._puller.authenticate(server, credentials)

    async def push(
        self,
        repository: str,
        tag: str,
        credentials: Credentials,
        progress: Progress,
        platform: Platform | None = None,
    ) -> None:
        """`tag`: "" is every tag that is here."""
        ref = reference_of(repository, tag)
        await self._pusher.run(ref, platform, credentials, progress)

    async def import_(
        self,
        chunks: AsyncIterator[bytes],
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: Platform | None,
        progress: Progress,
    ) -> str:
        """Returns the id. Without a repository the image is dangling."""
        ref = new_name(repository, tag) if repository else None
        return await self._importer.run(chunks, ref, message, changes, platform, progress)

    async def import_from(
        self,
        url: str,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: Platform | None,
        progress: Progress,
    ) -> str:
        """As `import_`, from a URL; one without a scheme is http, as with Docker."""
        address = addresses.parse(url if "://" in url else f"http://{url}")
        ref = new_name(repository, tag) if repository else None
        async with aclosing(download(self._transport, address, progress)) as chunks:
            return await self._importer.run(
                chunks, ref, message, changes, platform, progress, source=address.shown
            )

    async def commit(self, wanted: Committed, ref: Reference | None) -> str:
        """Returns the id. Without a reference the image is dangling."""
        if wanted.image is not None:
            await self.ensure_unpacked(wanted.image)
        return await self._committer.run(wanted, ref)

    async def load(
        self,
        chunks: AsyncIterator[bytes],
        progress: Progress,
        *,
        quiet: bool = False,
        platforms: Sequence[Platform] = (),
    ) -> None:
        await self._loader.run(chunks, progress, quiet=quiet, platforms=platforms)

    async def save(
        self, wanted: Sequence[str], platforms: Sequence[Platform] = ()
    ) -> AsyncIterator[bytes]:
        """A tar with the images; all names are looked up before the first byte."""
        return await self._saver.run(wanted, platforms)

    async def tag(self, text: str, repository: str, tag: str) -> None:
        ref = new_name(repository, tag)
        await self._naming.tag(await self._naming.resolve(text), ref)

    async def remove(
        self, text: str, *, force: bool, platforms: Sequence[Platform] = ()
    ) -> list[dict[str, str]]:
        """With `platforms`, only what the image has for these."""
        if platforms:
            return await self._thinner.remove(text, platforms, force=force)
        return await self._remover.remove(text, force=force)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        return await self._remover.prune(filters)

    async def inspect(
        self, text: str, version: tuple[int, int], platform: Platform | None = None
    ) -> dict[str, Any]:
        image = await self._for_platform(text, platform)
        blob = await self._store.get_blob(image.manifest) if version >= (1, 53) else None
        catalog = await self._naming.load()
        tagged = [r.labels.get(names.TAGGED_LABEL, "") for r in catalog.records_of(image.id)]
        return inspecting.inspect(
            image,
            catalog.names_of(image.id),
            self._store.snapshotter,
            max((int(moment) for moment in tagged if moment.isdigit()), default=0),
            version,
            names.identity(blob.labels) if blob else {},
        )

    async def _for_platform(self, text: str, wanted: Platform | None) -> Image:
        """The image, which is unpacked for one platform. Raises NotFound where that is another."""
        image = await self._naming.resolve(text)
        if wanted is not None and not oci.matches(wanted, oci.parse_platform(image.platform)):
            raise errors.NotFound(
                f"image with reference {text} was found but its platform ({image.platform}) "
                f"does not match the specified platform ({wanted})"
            )
        return image

    async def history(self, text: str, platform: Platform | None = None) -> list[dict[str, Any]]:
        image = await self._for_platform(text, platform)
        chains = digests.chain_ids(image.diff_ids)
        sizes = [await self._store.snapshot_size(chain) for chain in chains]
        return inspecting.history(image, await self.names_of(image.id), sizes)

    async def disk_usage(self) -> tuple[list[dict[str, Any]], int]:
        """Every image with its sizes, and the size of all layers together."""
        return await disk_usage.disk_usage(self._listing, self._naming, self._store, self._users)

    async def show(self, text: str, *, entries: bool) -> dict[str, Any]:
        """What each layer adds, changes, removes and wastes."""
        return await self._layers.show(await self._naming.resolve(text), entries=entries)

    async def diff(self, text: str, other: str) -> dict[str, Any]:
        """What makes the image `other` from this one."""
        one, two = await self._naming.resolve(text), await self._naming.resolve(other)
        return await self._layers.diff(one, two)

    async def verify(
        self, text: str, progress: Progress, *, repair: bool, credentials: Credentials
    ) -> None:
        """Reads every byte against its digest; the last line has the report."""

        def open_source(ref: Reference) -> Source:
            return self._puller.repository(ref, credentials)

        await self._verifier.run(text, progress, open_source if repair else None)

    async def manifests(self, text: str) -> list[dict[str, Any]]:
        """What the name leads to: an ImageManifestSummary for each manifest."""
        return await self._manifests((await self._naming.resolve(text)).target)

    async def attestations(
        self, text: str, platform: Platform | None, kinds: Sequence[str], *, whole: bool
    ) -> list[dict[str, Any]]:
        """AttestationStatements of an image for `platform`; None: for what was unpacked."""
        image = await self._naming.resolve(text)
        manifest = image.manifest
        if platform is not None:
            manifest = (await self._documents.manifest(image.target, platform))[0].digest
        return await self._attestations.statements(image.target, manifest, kinds, whole=whole)

    async def referrers(
        self, text: str, artifact_type: str, credentials: Credentials
    ) -> dict[str, Any]:
        """What refers to an image at its registry, of one kind or of all, as an index says it."""
        ref = reference.parse(text).with_default_tag()
        repository = self._opener(credentials)(ref)
        digest = ref.digest or (await repository.manifest(ref.tag)).digest
        found = await repository.referrers(digest, artifact_type)
        return {"Ref": ref.full, "Digest": digest, "Referrers": found}

    async def _manifests(
        self, target: Descriptor, *, identity: bool = False
    ) -> list[dict[str, Any]]:
        def users(image_id: str) -> list[str]:
            return [user.container_id for user in self._users(image_id)]

        return await manifests.summaries(self._store, target, users, identity=identity)

    async def list(
        self,
        filters: Mapping[str, Sequence[str]],
        *,
        count_containers: bool = False,
        manifests: bool = False,
        identity: bool = False,
        shared_size: bool = False,
    ) -> list[dict[str, Any]]:
        """`identity`: where each of the `manifests` came from."""
        shared: dict[str, int] = {}
        if shared_size:
            usage, _ = await self.disk_usage()
            shared = {one["Id"]: one["SharedSize"] for one in usage}
        found = []
        for summary in await self._listing.filtered(filters):
            count = len(self._users(summary.id)) if count_containers else -1
            one = listing.document(summary, count, shared.get(summary.id, -1))
            if manifests:
                target = summary.records[0].target
                one["Manifests"] = await self._manifests(target, identity=identity)
            found.append(one)
        return found


def reference_of(repository: str, tag: str) -> Reference:
    """From the two parts in which the Engine API passes a reference; no default tag is added."""
    ref = reference.parse(repository)
    if not tag:
        return ref
    if digests.is_valid(tag):
        return Reference(ref.domain, ref.path, "", tag)
    if not reference.is_tag(tag):
        raise errors.InvalidArgument("invalid tag format")
    return Reference(ref.domain, ref.path, tag)


def new_name(repository: str, tag: str) -> Reference:
    """What an image is to be called. Raises InvalidArgument for what would be taken for another."""
    ref = reference_of(repository, tag).with_default_tag()
    if ref.digest:
        raise errors.InvalidArgument("refusing to create a tag with a digest reference")
    if ref.familiar_name == "sha256":
        raise errors.InvalidArgument(
            "refusing to create an ambiguous tag using digest algorithm as name"
        )
    return ref
