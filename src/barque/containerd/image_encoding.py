"""A list of images as protobuf's bytes, made from rows without a message for each.

Ten thousand messages cost more than all else in a list of ten thousand images. The bytes are those
of containerd.services.images.v1.ListImagesResponse; a test holds them against protobuf's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from barque.containerd.messages import SECOND_NS
from barque.containerd.metadata import decode_labels
from barque.oci.varint import varint

# Field numbers, as tags of length-delimited fields (number << 3 | 2) or varints (number << 3).
IMAGES = b"\x0a"
NAME, LABELS = b"\x0a", b"\x12"  # target is 0x1a, created_at 0x3a, updated_at 0x42
MEDIA_TYPE, DIGEST, SIZE, ANNOTATIONS = b"\x0a", b"\x12", b"\x18", b"\x2a"
KEY, VALUE = b"\x0a", b"\x12"
SECONDS, NANOS = b"\x08", b"\x10"


class EncodedList:
    """Stands for a ListImagesResponse where one is sent."""

    def __init__(self, rows: Iterable[Any]) -> None:
        """`rows`: name, media type, digest, size, annotations, labels, created, updated."""
        self._whole = b"".join([_sized(IMAGES, encoded(row)) for row in rows])

    def __len__(self) -> int:
        """Bytes."""
        return len(self._whole)

    def SerializeToString(self) -> bytes:
        return self._whole


def encoded(row: Any) -> bytes:
    """One image."""
    name, media_type, digest, size, annotations, labels, created, updated = row
    target = _kind(media_type) + _text(DIGEST, digest)
    if size:
        target += SIZE + _small(size)
    if annotations != "{}":
        target += _entries(ANNOTATIONS, decode_labels(annotations))
    found = _text(NAME, name)
    if labels != "{}":
        found += _entries(LABELS, decode_labels(labels))
    made = _timestamp(created)
    changed = made if updated == created else _timestamp(updated)
    return b"%b\x1a%b%b\x3a%c%b\x42%c%b" % (
        *(found, _size(len(target)), target),
        *(len(made), made, len(changed), changed),
    )


def _entries(tag: bytes, values: Mapping[str, str]) -> bytes:
    return b"".join(
        _sized(tag, _text(KEY, key, always=True) + _text(VALUE, value, always=True))
        for key, value in values.items()
    )


def _text(tag: bytes, text: str, *, always: bool = False) -> bytes:
    return _sized(tag, text.encode()) if text or always else b""


def _sized(tag: bytes, data: bytes) -> bytes:
    return tag + _size(len(data)) + data


def _size(size: int) -> bytes:
    return SHORT[size] if size < len(SHORT) else varint(size)


def _kind(media_type: str) -> bytes:
    return _kinds(media_type) if len(media_type) < LONGEST_KIND else _text(MEDIA_TYPE, media_type)


def _timestamp(time_ns: int) -> bytes:
    seconds, nanos = divmod(time_ns, SECOND_NS)
    found = SECONDS + _small(seconds) if seconds else b""
    return found + NANOS + varint(nanos) if nanos else found


LONGEST_KIND = 128
# Of what is the same again and again: sizes of manifests, seconds, media types.
_small = lru_cache(1024)(varint)
_kinds = lru_cache(64)(lambda media_type: _text(MEDIA_TYPE, media_type))
SHORT = [varint(number) for number in range(1024)]
