"""A thin pool of the administrator's own, and what its devices are like.

Source: containerd, docs/snapshotters/devmapper.md: the keys of its section in the configuration.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, NamedTuple

from barque.errors import InvalidArgument

DEVICE_BYTES = 10 << 30  # that one snapshot can hold
SMALLEST_BYTES = 64 << 20
FILE_SYSTEMS = ("ext4", "ext2", "xfs")
NAME = re.compile(r"[A-Za-z0-9#+.:=@_-]{1,64}")
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "k", "m", "g", "t", "p"))}


class Pool(NamedTuple):
    """`name`: of a device-mapper device, whose devices all belong to the snapshotter."""

    name: str
    root: str = ""  # where the snapshotter keeps its directories; "": below the server's root
    size: int = DEVICE_BYTES
    file_system: str = "ext4"
    options: str = ""  # of the program that makes it
    discard: bool = False  # what a removed device had is given back to what the pool lies on


def parse(section: dict[str, Any], key: str) -> Pool:
    """`key` is the section's. Raises InvalidArgument for what no pool can be."""

    def wrong(name: str, wanted: str) -> InvalidArgument:
        return InvalidArgument(f"{key}.{name} must be {wanted}: {section[name]!r}")

    texts = {name: one for name, one in section.items() if name != "discard_blocks"}
    for name, one in texts.items():
        if not isinstance(one, str):
            raise wrong(name, "a string")
    if not texts.get("pool_name"):
        raise InvalidArgument(f"{key}.pool_name is required")
    if not NAME.fullmatch(texts["pool_name"]):
        raise wrong("pool_name", "the name of a device")
    root = texts.get("root_path", "")
    if root and not root.startswith("/"):
        raise wrong("root_path", "an absolute path")
    size = _bytes(texts.get("base_image_size") or str(DEVICE_BYTES))
    if size < SMALLEST_BYTES:
        raise wrong("base_image_size", "a size like 10GB, of 64MB at least")
    file_system = texts.get("fs_type") or FILE_SYSTEMS[0]
    if file_system not in FILE_SYSTEMS:
        raise wrong("fs_type", f"one of {', '.join(FILE_SYSTEMS)}")
    options = texts.get("fs_options", "")
    try:
        shlex.split(options)
    except ValueError:
        raise wrong("fs_options", "options of a program") from None
    discard = section.get("discard_blocks", False)
    if not isinstance(discard, bool):
        raise wrong("discard_blocks", "true or false")
    return Pool(texts["pool_name"], root, size, file_system, options, discard)


def _bytes(text: str) -> int:
    """0 for what is no size."""
    found = SIZE.fullmatch(text)
    return int(float(found[1]) * UNITS[found[2].lower()]) if found else 0
