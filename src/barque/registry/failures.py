"""What registries say when they refuse, as kinds of failure with Docker's words.

distribution-spec, "Error Codes": `{"errors": [{"code": "...", "message": "...", "detail": ...}]}`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from barque import errors

if TYPE_CHECKING:
    from barque.registry.transport import Exchange

MAX_ERROR_BYTES = 64 << 10
MAX_SHOWN_CHARACTERS = 300
DENIED = "requested access to the resource is denied"


def reason(status: int, raw: bytes) -> tuple[str, str]:
    """(code, "code in words: message") of an error body; code is "" where there is none."""
    try:
        first = json.loads(raw)["errors"][0]
        code, message = str(first["code"]), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", f"unexpected status {status}"
    words = code.lower().replace("_", " ")
    return code, _one_line(f"{words}: {message}" if message else words)


def _one_line(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean[:MAX_SHOWN_CHARACTERS]


def pull_failure(name: str, reference: str, status: int, raw: bytes) -> errors.BarqueError:
    """`name` is familiar (`busybox`), `reference` too (`busybox:1.36`)."""
    code, text = reason(status, raw)
    if code == "NAME_UNKNOWN":
        return errors.NotFound(f"repository {name} not found: {text}")
    if code == "MANIFEST_UNKNOWN" or status == 404:
        text = text if code else "manifest unknown: manifest unknown"
        return errors.NotFound(f"manifest for {reference} not found: {text}")
    if code in {"DENIED", "UNAUTHORIZED"} or status in {401, 403}:
        return access_denied(name, text if code else f"denied: {DENIED}")
    return refused(text, status)


def access_denied(name: str, text: str = f"denied: {DENIED}") -> errors.NotFound:
    """Docker answers 404: who may not see a repository is not told whether it is there."""
    return errors.NotFound(
        f"pull access denied for {name}, repository does not exist or may require "
        f"'docker login': {text}"
    )


def refused(text: str, status: int) -> errors.BarqueError:
    if status == 429:
        return errors.ResourceExhausted(f"toomanyrequests: {text}")
    if status in {401, 403}:
        return errors.Unauthorized(text)
    return errors.Unavailable(f"received unexpected HTTP status: {status}: {text}")


async def push_failure(answer: Exchange) -> errors.BarqueError:
    """What a registry says to a push that it does not take."""
    status, raw = answer.head.status, await answer.read(MAX_ERROR_BYTES)
    code, text = reason(status, raw)
    if code in {"DENIED", "UNAUTHORIZED"} or status in {401, 403}:
        return errors.Forbidden(text if code else f"denied: {DENIED}")
    return refused(text, status)


def verification(digest: str) -> errors.DataLoss:
    """The bytes of a blob are others than its digest says."""
    return errors.DataLoss(f"filesystem layer verification failed for digest {digest}")
