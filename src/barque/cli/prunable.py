"""What a prune would remove: `--dry-run`. It asks, and changes nothing; any daemon can answer."""

from __future__ import annotations

from barque import errors
from barque.api.versions import PRUNE_ANONYMOUS
from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from barque.cli.session import Session

    Filters = dict[str, list[str]]
    Object = dict[str, Any]

ENDED = ("created", "exited", "dead")
ANONYMOUS = "com.docker.volume.anonymous"


class Dry:
    """One look at the daemon's objects; each method lists (name, bytes) of a kind.

    Containers that would go count as gone for the volumes and images that they use.
    """

    def __init__(self, session: Session, filters: Filters) -> None:
        """Raises InvalidArgument for a filter that is none."""
        known = ("label", "label!", "until", "all", "dangling")
        if unknown := [name for name in filters if name not in known]:
            raise errors.InvalidArgument(f"invalid filter '{unknown[0]}'")
        self._client = session.client
        self._filters = filters
        self._until = min((_seconds(text) for text in filters.get("until", ())), default=0.0)
        self._all = self._client.containers.list(all=True, size=True)
        self._left = self._all

    def containers(self) -> list[tuple[str, int]]:
        gone = [c for c in self._all if c["State"] in ENDED and self._chosen(c)]
        self._left = [c for c in self._all if c not in gone]
        return [(str(c["Id"]), int(c.get("SizeRw") or 0)) for c in gone]

    def networks(self) -> list[tuple[str, int]]:
        unused: Filters = {"dangling": ["true"], "type": ["custom"]}
        found = self._client.networks.list(unused)
        return [(str(n["Name"]), 0) for n in found if self._chosen(n)]

    def volumes(self, *, named: bool) -> list[tuple[str, int]]:
        """`named`: those with names too, as older daemons have it in any case."""
        named = named or not self._client.at_least(PRUNE_ANONYMOUS)
        used = {m.get("Name") for c in self._left for m in c.get("Mounts") or ()}
        sizes = self._sizes()
        return [
            (str(v["Name"]), sizes.get(v["Name"], 0))
            for v in self._client.volumes.list()["Volumes"] or ()
            if v["Name"] not in used
            and (named or ANONYMOUS in (v.get("Labels") or {}))
            and self._chosen({**v, "Created": v.get("CreatedAt", "")})
        ]

    def images(self, *, named: bool) -> list[tuple[str, int]]:
        used = {c["ImageID"] for c in self._left}
        filters = None if named else {"dangling": ["true"]}
        gone = [
            image
            for image in self._client.images.list(filters=filters)
            if image["Id"] not in used and self._chosen(image)
        ]
        return [(_image_name(image), int(image["Size"])) for image in gone]

    def _sizes(self) -> dict[str, int]:
        query = [("type", "volume"), ("verbose", "1")]
        usage = self._client.request("GET", "/system/df", query).json()
        found = (usage.get("VolumeUsage") or {}).get("Items") or usage.get("Volumes") or ()
        return {v["Name"]: max(0, (v.get("UsageData") or {}).get("Size", 0)) for v in found}

    def _chosen(self, found: Object) -> bool:
        labels = found.get("Labels") or {}
        wanted, unwanted = self._filters.get("label", ()), self._filters.get("label!", ())
        if not all(_has(labels, label) for label in wanted):
            return False
        if any(_has(labels, label) for label in unwanted):
            return False
        return not self._until or _created(found.get("Created")) < self._until


def _has(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _seconds(text: str) -> float:
    from barque.cli.times import timestamp

    return float(timestamp(text))


def _created(value: Any) -> float:
    """A time of the API's: seconds, or RFC 3339."""
    return float(value) if isinstance(value, int) else _seconds(str(value))


def _image_name(image: Object) -> str:
    names = [name for name in image.get("RepoTags") or () if name != "<none>:<none>"]
    return ", ".join(names) or str(image["Id"])


def tell(title: str, found: Iterable[tuple[str, int]]) -> int:
    """Print what of one kind would go; its bytes."""
    pairs = list(found)
    if pairs:
        lines = "".join(f"{name}\n" for name, _ in pairs)
        terminal.out(f"Would delete {title}:\n{lines}\n")
    return sum(size for _, size in pairs)


def total(size: int) -> None:
    terminal.out(f"Total reclaimable space: {units.size(size, 4)}\n")
