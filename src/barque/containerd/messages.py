"""Between rows and protobuf messages: times, labels, update masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from barque.containerd.filters import Lookup
from barque.errors import InvalidArgument

SECOND_NS = 1_000_000_000


def timestamp(time_ns: int) -> Timestamp:
    return Timestamp(seconds=time_ns // SECOND_NS, nanos=time_ns % SECOND_NS)


def to_ns(value: Timestamp) -> int:
    return value.seconds * SECOND_NS + value.nanos


def without_empty(labels: Mapping[str, str]) -> dict[str, str]:
    """containerd keeps no label with an empty value: setting one so removes it."""
    return {key: value for key, value in labels.items() if value}


def update_map(
    current: Mapping[str, str], wanted: Mapping[str, str], mask: FieldMask, name: str = "labels"
) -> dict[str, str]:
    """`current` after an update that says `wanted`: whole, or only the keys that the mask names.

    A path `labels.KEY` names one key (everything after the first dot, dots too).
    """
    keys = [path[len(name) + 1 :] for path in mask.paths if path.startswith(name + ".")]
    if not mask.paths or name in mask.paths:
        return without_empty(wanted)
    return without_empty({**current, **{key: wanted.get(key, "") for key in keys}})


def check_mask(mask: FieldMask, allowed: Iterable[str], what: str) -> None:
    """Raises InvalidArgument when the mask names a field that must not be changed."""
    for path in mask.paths:
        if path.split(".", 1)[0] not in allowed:
            raise InvalidArgument(f'cannot update "{path}" field on {what}: invalid argument')


def lookup(fields: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Lookup:
    """A filter's view of an object: dotted names of `fields`, and its labels."""

    def find(path: tuple[str, ...]) -> str | None:
        if labels is not None and path[0] == "labels":
            return labels.get(".".join(path[1:]))
        found = fields.get(".".join(path))
        return found or None  # containerd: an empty field is absent

    return find
