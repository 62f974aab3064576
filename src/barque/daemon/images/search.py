"""`docker search`: an index that registries of the first kind have. API: ImageSearch.

`GET /v1/search?q=TERM&n=LIMIT` gives `{"results": [{name, description, star_count, is_official,
is_automated}]}`. Docker Hub has it, and few others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from barque import errors
from barque.daemon.images.listing import boolean
from barque.oci import document
from barque.registry import Transport
from barque.registry.auth import Credentials
from barque.registry.hosts import DOCKER_HUB

HUB_INDEX = "index.docker.io"
FILTERS = frozenset({"is-automated", "is-official", "stars"})
DEFAULT_LIMIT, MAX_LIMIT = 25, 100
MAX_ANSWER_BYTES = 4 << 20


def split(term: str) -> tuple[str, str]:
    """The domain to ask, and what for. Raises InvalidArgument."""
    if not term.strip() or "://" in term:
        raise errors.InvalidArgument(f"invalid search term {term[:100]!r}")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (HUB_INDEX if first in {DOCKER_HUB, HUB_INDEX} else first), rest
    return HUB_INDEX, term.removeprefix("library/")


async def search(
    transport: Transport,
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: Credentials,
) -> list[dict[str, Any]]:
    """ImageSearchResponseItems. Raises InvalidArgument, Unavailable."""
    for name in filters:
        if name not in FILTERS:
            raise errors.InvalidArgument(f"invalid filter '{name}'")
    if not 0 <= limit <= MAX_LIMIT:
        raise errors.InvalidArgument(f"Limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    domain, wanted = split(term)
    query = urlencode({"q": wanted, "n": limit or DEFAULT_LIMIT})
    base = await transport.base(domain)
    headers = {"Accept": "application/json", "X-Docker-Token": "true"}
    if credentials.username and base.scheme == "https":
        headers["Authorization"] = credentials.basic
    async with transport.exchange("GET", base.at(f"/v1/search?{query}"), headers) as answer:
        raw = await answer.read(MAX_ANSWER_BYTES)
        if answer.head.status != 200:
            raise errors.Unavailable(f"Unexpected status code {answer.head.status}")
    found = [_item(entry) for entry in _results(raw)]
    return [item for item in found if _kept(item, filters)]


def _results(raw: bytes) -> list[dict[str, Any]]:
    try:
        results = document.parse(raw)["results"]
    except (ValueError, KeyError, TypeError):
        raise errors.Unavailable("the registry's search results cannot be read") from None
    found = results if isinstance(results, list) else []
    return [entry for entry in found if isinstance(entry, dict)]


def _item(entry: dict[str, Any]) -> dict[str, Any]:
    stars = entry.get("star_count")
    return {
        "name": str(entry.get("name") or ""),
        "description": str(entry.get("description") or ""),
        "star_count": stars if isinstance(stars, int) else 0,
        "is_official": bool(entry.get("is_official")),
        "is_automated": bool(entry.get("is_automated")),
    }


def _kept(item: dict[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
    for name, key in (("is-official", "is_official"), ("is-automated", "is_automated")):
        if filters.get(name) and item[key] != boolean(name, filters[name]):
            return False
    for text in filters.get("stars", ()):
        if not text.isascii() or not text.isdigit():
            raise errors.InvalidArgument(f"invalid filter 'stars={text}'")
        if item["star_count"] < int(text):
            return False
    return True
