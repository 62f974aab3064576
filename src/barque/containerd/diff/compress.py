"""The bytes of a new layer: packed, hashed before and after compression, in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

from barque.errors import Unsupported

PIECE_BYTES = 1 << 20
GZIP_LEVEL = 1
ZSTD_LEVEL = 3
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
KINDS = {
    "": "",  # containerd's default: a gzip layer
    OCI_LAYER: "plain",
    OCI_LAYER + "+gzip": "gzip",
    OCI_LAYER + "+zstd": "zstd",
    DOCKER_LAYER: "plain",
    DOCKER_LAYER + ".gzip": "gzip",
}
DEFAULT_TYPE = OCI_LAYER + "+gzip"


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class NewLayer:
    """`digest`, `diff_id` and `size` are right once `pieces` has ended."""

    def __init__(self, media_type: str) -> None:
        """Raises Unsupported for a type that is no layer."""
        if media_type not in KINDS:
            raise Unsupported(f"unsupported diff media type: {media_type}: not implemented")
        self.media_type = media_type or DEFAULT_TYPE
        self._compressor = _compressor(KINDS[self.media_type])
        self._plain = hashlib.sha256(usedforsecurity=False)
        self._packed = hashlib.sha256(usedforsecurity=False)
        self.size = 0

    def pieces(self, archive: Iterator[bytes]) -> Iterator[bytes]:
        pending = bytearray()
        for data in archive:
            self._plain.update(data)
            pending += self._compressor.compress(data)
            if len(pending) >= PIECE_BYTES:
                yield self._told(pending)
        pending += self._compressor.flush()
        yield self._told(pending)

    def _told(self, pending: bytearray) -> bytes:
        piece = bytes(pending)
        pending.clear()
        self._packed.update(piece)
        self.size += len(piece)
        return piece

    @property
    def digest(self) -> str:
        return f"sha256:{self._packed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._plain.hexdigest()}"


def _compressor(kind: str) -> Compressor:
    if kind == "gzip":
        from isal import isal_zlib

        made: Compressor = isal_zlib.compressobj(GZIP_LEVEL, wbits=31)
        return made
    if kind == "zstd":
        from backports import zstd

        found: Compressor = zstd.ZstdCompressor(level=ZSTD_LEVEL)
        return found
    return _Plain()
