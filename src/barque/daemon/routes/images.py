"""The images of the Engine API: parse, call the service, render."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from barque import errors
from barque.daemon import answers
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.images.progress import Progress, run
from barque.daemon.images.service import Images
from barque.oci import image as oci
from barque.oci.image import Platform
from barque.registry.auth import Credentials, from_document, from_header

MAX_PLATFORMS = 100


def routes(images: Images) -> list[Route]:
    handlers = _Handlers(images)
    return [
        Route("POST", "/images/create", handlers.create),
        Route("GET", "/images/json", handlers.list),
        Route("GET", "/images/get", handlers.save),
        Route("POST", "/images/load", handlers.load),
        Route("POST", "/images/prune", handlers.prune),
        Route("GET", "/images/search", handlers.search),
        Route("GET", "/images/{name:path}/json", handlers.inspect),
        Route("GET", "/images/{name:path}/history", handlers.history),
        Route("GET", "/images/{name:path}/attestations", handlers.attestations),
        Route("GET", "/images/{name:path}/layers", handlers.layers),
        Route("GET", "/images/{name:path}/diff", handlers.diff),
        Route("POST", "/images/{name:path}/verify", handlers.verify),
        Route("GET", "/images/{name:path}/get", handlers.save),
        Route("POST", "/images/{name:path}/push", handlers.push),
        Route("POST", "/images/{name:path}/tag", handlers.tag),
        Route("DELETE", "/images/{name:path}", handlers.delete),
        Route("POST", "/auth", handlers.auth),
    ]


def _version(request: Request) -> tuple[int, int]:
    """What an image is to be described as. docker-compose 1 asks for the newest version, but reads
    a field (ContainerConfig) that was taken away with 1.45."""
    agent = request.headers.get("user-agent", "")
    return (
        min(request.version, (1, 44)) if agent.startswith("docker-compose/1.") else request.version
    )


class _Handlers:
    def __init__(self, images: Images) -> None:
        self._images = images

    async def create(self, request: Request) -> Response:
        """Pull with `fromImage`, import with `fromSrc`."""
        query = request.query
        platform = _platform(request)
        source = query.get("fromSrc")
        if query.get("fromImage"):
            repository, tag = query.get("fromImage"), query.get("tag")
            credentials = from_header(request.headers.get("x-registry-auth", ""))
            return await _progress(
                lambda progress: self._images.pull(repository, tag, platform, credentials, progress)
            )
        if not source:
            raise errors.InvalidArgument("one of fromImage and fromSrc is needed")
        return await _progress(lambda progress: self._import(request, platform, progress))

    async def _import(
        self, request: Request, platform: Platform | None, progress: Progress
    ) -> None:
        query = request.query
        source, repository, tag = query.get("fromSrc"), query.get("repo"), query.get("tag")
        message, changes = query.get("message"), query.all("changes")
        if source == "-":
            await self._images.import_(
                request.body_chunks, repository, tag, message, changes, platform, progress
            )
        else:
            await self._images.import_from(
                source, repository, tag, message, changes, platform, progress
            )

    async def list(self, request: Request) -> Response:
        query = request.query
        manifests = query.flag("manifests") and request.version >= (1, 47)
        identity = query.flag("identity") and request.version >= (1, 54)
        if identity and not manifests:
            raise errors.InvalidArgument("conflicting options: identity needs manifests")
        filters = query.filters()
        if query.get("filter"):  # before 1.25: one reference
            filters["reference"] = [query.get("filter")]
        found = await self._images.list(
            filters,
            manifests=manifests,
            identity=identity,
            shared_size=query.flag("shared-size"),
        )
        if request.version < (1, 44):
            for entry in found:
                entry["VirtualSize"] = entry["Size"]
        if request.version < (1, 48):
            for entry in found:
                del entry["Descriptor"]
        return json_response(found)

    async def inspect(self, request: Request) -> Response:
        platform = _platform_document(request.query.get("platform"))
        name, version = request.params["name"], _version(request)
        wants_manifests = request.query.flag("manifests") and version >= (1, 48)
        if wants_manifests and platform is not None:
            raise errors.InvalidArgument("conflicting options: manifests and platform")
        found = await self._images.inspect(name, version, platform)
        if wants_manifests:
            found["Manifests"] = await self._images.manifests(name)
        return json_response(answers.image(found, version))

    async def layers(self, request: Request) -> Response:
        """Ours: what each layer does."""
        entries = request.query.flag("entries")
        return json_response(await self._images.show(request.params["name"], entries=entries))

    async def diff(self, request: Request) -> Response:
        """Ours: what makes the image `to` from this one."""
        other = request.query.get("to")
        if not other:
            raise errors.InvalidArgument("no image named to compare with")
        return json_response(await self._images.diff(request.params["name"], other))

    async def verify(self, request: Request) -> Response:
        """Ours: every byte against its digest; with `repair`, what is damaged is fetched again."""
        name, repair = request.params["name"], request.query.flag("repair")
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        return await _progress(
            lambda progress: self._images.verify(
                name, progress, repair=repair, credentials=credentials
            )
        )

    async def history(self, request: Request) -> Response:
        platform = _platform_document(request.query.get("platform"))
        return json_response(await self._images.history(request.params["name"], platform))

    async def tag(self, request: Request) -> Response:
        query = request.query
        await self._images.tag(request.params["name"], query.get("repo"), query.get("tag"))
        return Response(201)

    async def delete(self, request: Request) -> Response:
        force, platforms = request.query.flag("force"), _platforms(request, "platforms")
        if not request.params["name"].strip():
            raise errors.InvalidArgument("image name cannot be blank")
        found = await self._images.remove(request.params["name"], force=force, platforms=platforms)
        return json_response(found)

    async def attestations(self, request: Request) -> Response:
        query = request.query
        platforms = _platforms(request, "platform")
        if len(platforms) > 1:
            raise errors.InvalidArgument("only one platform can be asked for at once")
        found = await self._images.attestations(
            request.params["name"],
            platforms[0] if platforms else None,
            query.all("type"),
            whole=query.flag("statement"),
        )
        return json_response(found)

    async def prune(self, request: Request) -> Response:
        return json_response(await self._images.prune(request.query.filters()))

    async def push(self, request: Request) -> Response:
        name, tag = request.params["name"], request.query.get("tag")
        platform = _platform_document(request.query.get("platform"))
        credentials = await _push_credentials(request)
        return await _progress(
            lambda progress: self._images.push(name, tag, credentials, progress, platform)
        )

    async def load(self, request: Request) -> Response:
        quiet, platforms = request.query.flag("quiet"), _platforms(request, "platform")
        return await _progress(
            lambda progress: self._images.load(
                request.body_chunks, progress, quiet=quiet, platforms=platforms
            ),
            raises=False,
        )

    async def save(self, request: Request) -> Response:
        platforms = _platforms(request, "platform")
        wanted = request.query.all("names")
        if "name" in request.params:
            wanted = [request.params["name"]]
        if not wanted:
            raise errors.InvalidArgument("no image named to save")
        return Response(200, await self._images.save(wanted, platforms), "application/x-tar")

    async def search(self, request: Request) -> Response:
        query = request.query
        found = await self._images.search(
            query.get("term"),
            query.integer("limit", 0) or 0,
            query.filters(),
            from_header(request.headers.get("x-registry-auth", "")),
        )
        return json_response(found)

    async def auth(self, request: Request) -> Response:
        document: dict[str, Any] = await request.json()
        await self._images.authenticate(
            str(document.get("serveraddress") or ""), from_document(document)
        )
        return json_response({"Status": "Login Succeeded", "IdentityToken": ""})


def _platform(request: Request) -> Platform | None:
    text = request.query.get("platform")
    return oci.parse_platform(text) if text else None


def _platforms(request: Request, name: str) -> list[Platform]:
    """Newer clients may name several, each by its JSON. Raises InvalidArgument."""
    given = request.query.all(name)
    if len(given) > MAX_PLATFORMS:
        raise errors.InvalidArgument(f"more than {MAX_PLATFORMS} platforms")
    found = (_platform_document(text) for text in given)
    return list(dict.fromkeys(platform for platform in found if platform is not None))


def _platform_document(text: str) -> Platform | None:
    """The JSON of a platform, as newer parameters have it. Raises InvalidArgument."""
    if not text:
        return None
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        names = [str(found[name]) for name in ("os", "architecture", "variant") if found.get(name)]
    except (msgspec.DecodeError, RecursionError):
        raise errors.InvalidArgument(f"failed to parse platform: {text[:100]!r}") from None
    return oci.parse_platform("/".join(names))


async def _push_credentials(request: Request) -> Credentials:
    """From the header; very old clients put them into the body."""
    header = request.headers.get("x-registry-auth", "")
    if header:
        return from_header(header)
    return from_document(await request.json(optional=True))


async def _progress(
    operation: Callable[[Progress], Awaitable[None]], *, raises: bool = True
) -> Response:
    body: AsyncIterator[bytes] = await run(operation, raises=raises)
    return Response(200, body)
