"""Blobs on their way to a registry: shared by another repository there, whole, or in chunks.

distribution-spec, "Pushing blobs". A blob goes in one request. Where that breaks off, the registry
is asked how much it has and gets the rest; one that takes no body of that size gets chunks.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlencode

from barque import errors
from barque.oci import digest as digests
from barque.registry import failures
from barque.registry.addresses import Address
from barque.registry.connection import Broken
from barque.registry.session import RETRIED, Session
from barque.registry.transport import Exchange

MAX_SOURCES = 3  # repositories asked to share a blob before it is sent
CHUNK_BYTES = 8 << 20
MAX_CHUNK_BYTES = 1 << 30  # a registry that wants larger ones gets these
TOO_LARGE, OUT_OF_ORDER = 413, 416

ReadFrom = Callable[[int], AsyncGenerator[bytes, None]]
"""The bytes of a blob from an offset on; called for each attempt."""


class _Later(Broken):
    """The registry refused, but may not the next time."""

    def __init__(self, refusal: errors.BarqueError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass(slots=True)
class _Upload:
    """One place to send to. `offset`: what is there already; `chunk`: 0 for all in one request."""

    where: Address
    offset: int = 0
    chunk: int = 0
    least: int = 0  # OCI-Chunk-Min-Length


async def send(
    session: Session, digest: str, size: int, read: ReadFrom, sources: Sequence[str] = ()
) -> str:
    """Returns the one of `sources`, other repositories there, that shared it; "" when it was sent.

    Needs the right to push. Raises Forbidden, Unauthorized, Unavailable in the registry's words.
    """
    digests.parse(digest)
    upload: _Upload | None = None
    for source in sources[:MAX_SOURCES]:
        upload = await _begin(session, digest, source)
        if upload is None:
            return source
    failed = chunk = 0
    resumed = anew = False
    while True:
        if upload is None:
            upload = await _begin(session)
            assert upload is not None
            upload.chunk = max(chunk, upload.least) if chunk else 0
        before = upload.offset
        try:
            if await _send_rest(session, upload, digest, size, read):
                return ""
            upload.chunk = chunk = max(CHUNK_BYTES, upload.least)  # it was too large in one piece
        except Broken as error:
            failed = 1 if upload.offset > before else failed + 1
            if failed >= session.attempts:
                raise (error.refusal if isinstance(error, _Later) else error) from None
            await session.pause(failed)
            resumed = await _ask(session, upload, size)
            if not resumed:
                upload = None
        except errors.Unavailable:  # what broke off may have arrived since we asked, or half of it
            if anew or not resumed:
                raise
            upload, anew, resumed = None, True, False


async def _begin(session: Session, digest: str = "", source: str = "") -> _Upload | None:
    """Where to send a blob; None when the registry took it from `source` instead."""
    target = "blobs/uploads/"
    if source:
        target += "?" + urlencode({"mount": digest, "from": source})
    async with session.ask("POST", target, {}, push=True, source=source) as answer:
        if source and answer.head.status == 201:
            return None
        if answer.head.status != 202:
            raise await failures.push_failure(answer)
        least = answer.head.headers.get("oci-chunk-min-length", "")
        bound = min(int(least[:18]), MAX_CHUNK_BYTES) if least.isdigit() else 0
        return _Upload(session.led(answer), least=bound)


async def _send_rest(
    session: Session, upload: _Upload, digest: str, size: int, read: ReadFrom
) -> bool:
    """True when the blob is there; False when it is too large to go at once."""
    if not upload.chunk and not upload.offset:
        status, answer = await _put(session, upload, digest, size, read)
        if status == TOO_LARGE and size > CHUNK_BYTES:
            return False
    else:
        while upload.offset < size:
            length = min(upload.chunk or size, size - upload.offset)
            if not await _patch(session, upload, length, size, read):
                return False
        _, answer = await _put(session, upload, digest, 0, read)
    if answer is not None:
        raise answer
    return True


async def _put(
    session: Session, upload: _Upload, digest: str, length: int, read: ReadFrom
) -> tuple[int, errors.BarqueError | None]:
    """Ends the upload, with the whole blob in it or with nothing more."""
    separator = "&" if "?" in upload.where.target else "?"
    target = upload.where.at(upload.where.target + separator + urlencode({"digest": digest}))
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
    body = read(0) if length else b""
    async with session.ask("PUT", target, headers, body, push=True) as answer:
        status = answer.head.status
        return status, None if status == 201 else await _refusal(answer)


async def _patch(session: Session, upload: _Upload, length: int, size: int, read: ReadFrom) -> bool:
    """One chunk more; False for one that is too large. Raises Broken where another was awaited."""
    last = upload.offset + length - 1
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(length),
        "Content-Range": f"{upload.offset}-{last}",
    }
    body = _first(read(upload.offset), length)
    async with session.ask("PATCH", upload.where, headers, body, push=True) as answer:
        if answer.head.status == TOO_LARGE and length > CHUNK_BYTES:
            return False
        if answer.head.status == OUT_OF_ORDER:
            raise Broken(f"the registry does not go on at {upload.offset}")
        if answer.head.status != 202:
            raise await _refusal(answer)
        upload.where = session.led(answer)
        upload.offset = min(_received(answer, last + 1), size)
        return True


async def _refusal(answer: Exchange) -> errors.BarqueError:
    refusal = await failures.push_failure(answer)
    return _Later(refusal) if answer.head.status in RETRIED else refusal


async def _ask(session: Session, upload: _Upload, size: int) -> bool:
    """Sets how much has arrived; False where the registry does not go on with it."""
    try:
        async with session.ask("GET", upload.where, {}, push=True) as answer:
            if answer.head.status != 204:
                return False
            if answer.head.headers.get("location"):
                upload.where = session.led(answer)
            upload.offset = _received(answer, 0)
            return 0 < upload.offset <= size
    except errors.Unavailable:
        return False


def _received(answer: Exchange, default: int) -> int:
    """From `Range: 0-<last byte>`; `0-0` is what registries say of nothing, too."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", answer.head.headers.get("range", ""))
    if not match:
        return default
    last = int(match[1])
    return last + 1 if last else 0


async def _first(chunks: AsyncGenerator[bytes, None], length: int) -> AsyncIterator[bytes]:
    async with aclosing(chunks) as found:
        async for chunk in found:
            yield chunk[:length]
            length -= len(chunk)
            if length <= 0:
                return
