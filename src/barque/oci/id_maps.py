"""Mappings of user and group ids as containerd writes them: `container:host:size`, with commas.

Source: containerd, core/snapshots (labels of snapshots that are seen with other ids) and core/mount
(the options `uidmap` and `gidmap`); user_namespaces(7), "uid_map".
"""

from __future__ import annotations

from barque.errors import InvalidArgument

IDS = (1 << 32) - 1  # the last is no id: -1
MAPPINGS_MAX = 340  # what the kernel takes


class IdMap:
    """One kind of ids; `text` is what it was made of."""

    __slots__ = ("ranges", "text")

    def __init__(self, text: str) -> None:
        """Raises InvalidArgument for a text that is no mapping, or that is ambiguous."""
        pieces = text.split(",")
        if len(pieces) > MAPPINGS_MAX:
            raise InvalidArgument(f"more than {MAPPINGS_MAX} mappings of ids")
        self.text = text
        self.ranges = tuple([_range(piece) for piece in pieces])
        for side in (0, 1):
            ordered = sorted((one[side], one[2]) for one in self.ranges)
            end = 0
            for start, size in ordered:
                if start < end:
                    raise InvalidArgument(f"mappings of ids overlap: {text[:80]!r}")
                end = start + size

    def to_host(self, number: int) -> int:
        """The id outside of what is `number` inside; -1 where it has none."""
        for container, host, size in self.ranges:
            if container <= number < container + size:
                return host + number - container
        return -1

    def to_container(self, number: int) -> int:
        """The id inside of what is `number` outside; -1 where it has none."""
        for container, host, size in self.ranges:
            if host <= number < host + size:
                return container + number - host
        return -1

    def lines(self) -> str:
        """As /proc/PID/uid_map takes it."""
        return "".join([f"{inside} {host} {size}\n" for inside, host, size in self.ranges])


class IdMaps:
    """Of users and of groups."""

    __slots__ = ("gids", "uids")

    def __init__(self, uids: str, gids: str) -> None:
        """Raises InvalidArgument."""
        self.uids = IdMap(uids)
        self.gids = IdMap(gids)

    @property
    def root(self) -> tuple[int, int]:
        """Who is root inside, seen from outside; -1 for nobody."""
        return self.uids.to_host(0), self.gids.to_host(0)


def _range(text: str) -> tuple[int, int, int]:
    numbers = text.split(":")
    if len(numbers) == 3 and all(one.isascii() and one.isdigit() for one in numbers):
        container, host, size = (int(one[:20]) for one in numbers)
        if 0 < size <= IDS and container + size <= IDS and host + size <= IDS:
            return container, host, size
    raise InvalidArgument(f"not a mapping of ids (container:host:size): {text[:80]!r}")
