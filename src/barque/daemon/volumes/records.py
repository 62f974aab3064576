"""What the daemon stores of volumes, the request that makes one, and the filters of lists. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from barque import errors
from barque.daemon.moments import rfc3339_now
from barque.daemon.networks.filters import check_keys, dangling_wanted, label_matches
from barque.volume import options as local_options
from barque.volume.local import check_name
from barque.volume.quota import parse_size

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
LOCAL = "local"
NAME_BYTES = 32
LIST_KEYS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_KEYS = frozenset({"label", "label!", "all"})


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    name: str
    created: str
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    made_for: str = ""  # the container whose creation made it without a name
    driver: str = LOCAL
    read_only: bool = False  # a snapshot: whoever mounts it

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> VolumeRecord:
        return cls(**json.loads(text))

    @property
    def plan(self) -> local_options.MountPlan | None:
        """What the local driver mounts for it, None for a plain directory or another driver."""
        if self.driver != LOCAL:
            return None
        return local_options.parse(self.name, self.options or {})

    @property
    def size(self) -> int:
        """How many bytes it may hold; 0 for no limit of its own."""
        text = (self.options or {}).get("size") or ""
        return parse_size(self.name, text) if self.driver == LOCAL and text else 0

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS_LABEL in (self.labels or {})


def parse_create(body: Mapping[str, Any]) -> VolumeRecord:
    """POST /volumes/create as a record; without a name it is an anonymous one."""
    request = {key.lower(): value for key, value in body.items()}
    name = request.get("name") or ""
    driver = request.get("driver") or "local"
    if not isinstance(name, str) or not isinstance(driver, str):
        raise errors.InvalidArgument("invalid volume: Name and Driver must be strings")
    labels = _strings(request, "labels")
    options = _strings(request, "driveropts")
    if request.get("clustervolumespec"):
        raise errors.Unsupported("cluster volumes are not supported yet")
    if not name:
        labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        name = secrets.token_hex(NAME_BYTES)
    return new_record(name, driver, labels, options)


def new_record(
    name: str,
    driver: str = LOCAL,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    *,
    made_for: str = "",
    read_only: bool = False,
) -> VolumeRecord:
    """A volume to be made now. Raises InvalidArgument, Unsupported for what no such volume is."""
    check_name(name)
    if driver == LOCAL:
        local_options.parse(name, options or {})
    return VolumeRecord(name, rfc3339_now(), labels, options, made_for, driver, read_only)


def _strings(request: Mapping[str, Any], key: str) -> dict[str, str] | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise errors.InvalidArgument(f"invalid volume: {key} must be an object of strings")
    return dict(value)


def check_list(filters: Mapping[str, Sequence[str]]) -> None:
    """Whether `volume ls` knows these filters. Raises InvalidArgument."""
    check_keys(filters, LIST_KEYS)
    if "dangling" in filters:
        dangling_wanted(filters["dangling"])


def matches(record: VolumeRecord, filters: Mapping[str, Sequence[str]], *, in_use: bool) -> bool:
    """Whether `volume ls` shows the volume."""
    if "dangling" in filters and dangling_wanted(filters["dangling"]) == in_use:
        return False
    if filters.get("driver") and record.driver not in filters["driver"]:
        return False
    if filters.get("name") and not any(part in record.name for part in filters["name"]):
        return False
    labels = record.labels or {}
    return all(label_matches(labels, wanted) for wanted in filters.get("label", ()))


def label_filters(record: VolumeRecord, filters: Mapping[str, Sequence[str]]) -> bool:
    labels = record.labels or {}
    if not all(label_matches(labels, wanted) for wanted in filters.get("label", ())):
        return False
    return not any(label_matches(labels, wanted) for wanted in filters.get("label!", ()))
