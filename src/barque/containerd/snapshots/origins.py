"""Which blob an active snapshot was filled from: what was unpacked by us can be unpacked again."""

from __future__ import annotations

from typing import NamedTuple

from barque.oci import digest as digests

REMEMBERED_MAX = 1024  # directories


class Origin(NamedTuple):
    """The one layer in a directory: its blob, and the digest of what that is uncompressed."""

    blob: str
    diff_id: str


class Origins:
    """Of directories that layers were applied onto. What is forgotten is nobody's layer."""

    def __init__(self) -> None:
        self._of: dict[str, Origin | None] = {}

    def begun(self, directory: str) -> bool:
        """A layer is being applied; whether it is the first there, as far as is known."""
        first = directory not in self._of
        self._of[directory] = None
        if len(self._of) > REMEMBERED_MAX:
            del self._of[next(iter(self._of))]
        return first

    def filled(self, directory: str, origin: Origin) -> None:
        """The first one was, whole."""
        if directory in self._of:
            self._of[directory] = origin

    def layer(self, directory: str, name: str, parent: str) -> Origin | None:
        """Where the layer in `directory` is from, if that is what `name` says: it is the chain id
        of `parent` ("" for none) with the layer on it. image-spec, config.md, "Layer ChainID".
        """
        origin = self._of.get(directory)
        if origin is None:
            return None
        return origin if name == chain_of(parent, origin.diff_id) else None


def chain_of(parent: str, diff_id: str) -> str:
    return digests.chain_id([parent, diff_id] if parent else [diff_id])
