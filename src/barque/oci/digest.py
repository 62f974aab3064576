"""Digests: `algorithm:hex`, the name of every blob.

Source: image-spec, descriptor.md, "Digests". Only registered algorithms with exact lower-case hex
pass, so a digest is safe as a path component once `parse` accepted it.
"""

from __future__ import annotations

from barque.errors import InvalidArgument

HEX_DIGITS = frozenset("0123456789abcdef")
LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


def parse(text: str) -> tuple[str, str]:
    """The algorithm and the hex digits of `text`.

    Raises InvalidArgument for anything but a well-formed digest of a known algorithm.
    """
    algorithm, colon, digits = text.partition(":")
    length = LENGTHS.get(algorithm)
    if not colon or length is None:
        raise InvalidArgument(f"unsupported digest algorithm: {text[:80]!r}")
    if len(digits) != length or not HEX_DIGITS.issuperset(digits):
        raise InvalidArgument(f"invalid digest: {text[:160]!r}")
    return algorithm, digits


def is_valid(text: str) -> bool:
    try:
        parse(text)
    except InvalidArgument:
        return False
    return True


def sha256(content: bytes) -> str:
    """The sha256 digest of `content`, as text. Imports hashlib on the first use only."""
    import hashlib

    return "sha256:" + hashlib.sha256(content).hexdigest()


def chain_id(diff_ids: list[str] | tuple[str, ...]) -> str:
    """The chain id of the stack of layers `diff_ids`, base first.

    Source: image-spec, config.md, "Layer ChainID". Raises InvalidArgument for an empty stack.
    """
    if not diff_ids:
        raise InvalidArgument("chain id of no layers")
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = sha256(f"{chain} {diff_id}".encode())
    return chain


def chain_ids(diff_ids: list[str] | tuple[str, ...]) -> list[str]:
    """The chain id after each layer, base first: as many as there are `diff_ids`."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(sha256(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
