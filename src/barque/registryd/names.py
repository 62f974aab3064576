"""Names in requests: repositories, tags, digests, checked before they are part of any path."""

from __future__ import annotations

import re

from barque.errors import InvalidArgument
from barque.oci import digest as digests
from barque.oci import reference
from barque.registryd.refusals import Refusal

MAX_NAME = 255
_PART = re.compile(r"[a-z0-9]++(?:(?:\.|__?|-++)[a-z0-9]++)*+")


def check_name(name: str) -> str:
    """A repository's name. Raises Refusal."""
    if len(name) > MAX_NAME or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise Refusal("NAME_INVALID", f"invalid repository name {name[:MAX_NAME]!r}")
    return name


def check_digest(digest: str) -> str:
    try:
        digests.parse(digest)
    except InvalidArgument as error:
        raise Refusal("DIGEST_INVALID", str(error)) from None
    return digest


def check_tag(tag: str) -> str:
    if not reference.is_tag(tag):
        raise Refusal("TAG_INVALID", f"invalid tag {tag[:140]!r}")
    return tag
