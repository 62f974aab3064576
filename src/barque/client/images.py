"""Endpoints under /images. Source: Engine API reference, "Image"."""

from __future__ import annotations

from barque import errors
from barque.client import json
from barque.client.containers import filters_query, flags
from barque.client.http import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from barque.client.client import Client, Reply

    Filters = dict[str, list[str]]


class Images:
    """`image` is an id, the beginning of one, or a reference."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _path(self, image: str, rest: str = "") -> str:
        if not image:
            raise errors.InvalidArgument("invalid reference format")
        return f"/images/{quote(image, safe=b'/:@')}{rest}"

    def list(
        self,
        *,
        all: bool = False,
        digests: bool = False,
        manifests: bool = False,
        identity: bool = False,
        filters: Filters | None = None,
    ) -> Any:
        """`identity`: with the `manifests`, where each came from."""
        query = flags(all=all, digests=digests, manifests=manifests, identity=identity)
        query += filters_query(filters)
        return self._client.request("GET", "/images/json", query).json()

    def inspect(self, image: str) -> Any:
        return json.loads(self.inspect_raw(image))

    def inspect_raw(self, image: str, *, platform: str = "") -> bytes:
        query = [("platform", _platform(platform))] if platform else []
        return self._client.request("GET", self._path(image, "/json"), query).read()

    def pull(
        self, repository: str, tag: str, *, platform: str = "", auth: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Progress documents; a failure comes as "error". `auth`: the value of X-Registry-Auth."""
        query = [("fromImage", repository), ("tag", tag)]
        if platform:
            query.append(("platform", platform))
        headers = [("X-Registry-Auth", auth)] if auth else []
        reply = self._client.request("POST", "/images/create", query, headers=headers)
        return reply.documents()

    def import_(
        self,
        source: str,
        content: Iterable[bytes] | None,
        *,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Iterable[str] = (),
        platform: str = "",
    ) -> Iterator[dict[str, Any]]:
        """`source` is an URL that the daemon fetches, or "-" for `content`, a tar archive."""
        query = [("fromSrc", source)]
        query += [("repo", repository)] if repository else []
        query += [("tag", tag)] if tag else []
        query += [("message", message)] if message else []
        query += [("changes", change) for change in changes]
        query += [("platform", platform)] if platform else []
        return self._client.request("POST", "/images/create", query, stream=content).documents()

    def push(
        self, repository: str, tag: str, *, platform: str = "", auth: str = "e30="
    ) -> Iterator[dict[str, Any]]:
        """Progress documents; a failure comes as "error". `tag`: "" is every tag."""
        query = [("tag", tag)] if tag else []
        query += [("platform", _platform(platform))] if platform else []
        headers = [("X-Registry-Auth", auth)]
        path = self._path(repository, "/push")
        return self._client.request("POST", path, query, headers=headers).documents()

    def history(self, image: str, *, platform: str = "") -> Any:
        query = [("platform", _platform(platform))] if platform else []
        return self._client.request("GET", self._path(image, "/history"), query).json()

    def remote_manifest(self, image: str, *, auth: str = "") -> Any:
        """A manifest or index as its registry has it: "Ref", "Descriptor", "Raw" (base64).

        Docker has it not: its own command asks registries by itself.
        """
        headers = [("X-Registry-Auth", auth)] if auth else []
        path = f"/distribution/{quote(image, safe=b'/:@')}/manifest"
        return self._client.request("GET", path, headers=headers).json()

    def referrers(self, image: str, *, artifact_type: str = "", auth: str = "") -> Any:
        """What refers to an image at its registry: "Ref", "Digest", "Referrers" (descriptors).

        Docker has it not.
        """
        headers = [("X-Registry-Auth", auth)] if auth else []
        query = [("artifactType", artifact_type)] if artifact_type else []
        path = f"/distribution/{quote(image, safe=b'/:@')}/referrers"
        return self._client.request("GET", path, query, headers=headers).json()

    def attestations(
        self, image: str, *, platform: str = "", types: Iterable[str] = (), statement: bool = False
    ) -> Any:
        """Attestations of an image that is here; with `statement`, their statements too."""
        query = [("platform", _platform(platform))] if platform else []
        query += [("type", kind) for kind in types]
        query += flags(statement=statement)
        return self._client.request("GET", self._path(image, "/attestations"), query).json()

    def push_manifest_list(
        self, image: str, raw: str, sources: Iterable[str], *, auth: str = ""
    ) -> Any:
        """Send an index (base64) whose manifests are at `sources`, references of one registry.

        Docker has it not.
        """
        headers = [("X-Registry-Auth", auth)] if auth else []
        path = f"/distribution/{quote(image, safe=b'/:@')}/manifest"
        body = {"Raw": raw, "Sources": [*sources]}
        return self._client.request("POST", path, headers=headers, body=body).json()

    def show(self, image: str, *, entries: bool = False) -> Any:
        """What each layer adds, changes, removes and wastes. Docker has it not."""
        return self._client.request(
            "GET", self._path(image, "/layers"), flags(entries=entries)
        ).json()

    def diff(self, image: str, other: str) -> Any:
        """What makes the image `other` from this one. Docker has it not."""
        return self._client.request("GET", self._path(image, "/diff"), [("to", other)]).json()

    def verify(
        self, image: str, *, repair: bool = False, auth: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Progress documents; the last one's "aux" says what is damaged. Docker has it not."""
        headers = [("X-Registry-Auth", auth)] if auth else []
        path, query = self._path(image, "/verify"), flags(repair=repair)
        return self._client.request("POST", path, query, headers=headers).documents()

    def search(
        self, term: str, *, limit: int = 0, filters: Filters | None = None, auth: str = ""
    ) -> Any:
        query = [("term", term), *filters_query(filters)]
        query += [("limit", str(limit))] if limit else []
        headers = [("X-Registry-Auth", auth)] if auth else []
        return self._client.request("GET", "/images/search", query, headers=headers).json()

    def prune(self, filters: Filters | None = None) -> Any:
        return self._client.request("POST", "/images/prune", filters_query(filters)).json()

    def save(self, images: Iterable[str], *, platforms: Iterable[str] = ()) -> Iterator[bytes]:
        """An archive of images, as it comes."""
        query = [("names", image) for image in images]
        query += [("platform", _platform(text)) for text in platforms]
        return self._client.request("GET", "/images/get", query, fresh=True).pieces()

    def load(
        self, content: Iterable[bytes], *, quiet: bool = False, platforms: Iterable[str] = ()
    ) -> Reply:
        """Send an archive of images; the answer is JSON progress, or text from old daemons."""
        query = [("quiet", "1" if quiet else "0")]
        query += [("platform", _platform(text)) for text in platforms]
        return self._client.request("POST", "/images/load", query, stream=content)

    def tag(self, image: str, repository: str, tag: str) -> None:
        query = [("repo", repository), ("tag", tag)]
        self._client.request("POST", self._path(image, "/tag"), query).read()

    def remove(
        self, image: str, *, force: bool = False, prune: bool = True, platforms: Iterable[str] = ()
    ) -> Any:
        """Returns [{"Untagged": ...} or {"Deleted": ...}, ...]."""
        query = flags(force=force, noprune=not prune)
        query += [("platforms", _platform(text)) for text in platforms]
        return self._client.request("DELETE", self._path(image), query).json()


def _platform(text: str) -> str:
    """`linux/arm64/v8` as the document that newer parameters of the API want."""
    names, words = ("os", "architecture", "variant"), text.split("/")
    if not all(words) or len(words) > len(names):
        raise errors.InvalidArgument(
            f'invalid platform: "{text}": cannot parse platform specifier: invalid argument'
        )
    return json.dumps(dict(zip(names, words, strict=False)))
