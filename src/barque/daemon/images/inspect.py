"""`docker image inspect` and `docker history`: one image as the Engine API's documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque.daemon import moments
from barque.daemon.images.image import Image
from barque.daemon.images.names import Names
from barque.daemon.storage import driver_of

# Members that clients before 1.50 expect to find even when empty.
_OLD_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def _text(image: Image, *keys: str) -> str:
    """A member of the config document; image tools differ in the case of these."""
    for key in keys:
        value = image.document.get(key)
        if isinstance(value, str):
            return value
    return ""


def inspect(
    image: Image,
    names: Names,
    snapshotter: str,
    tagged_ns: int,
    version: tuple[int, int],
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """ImageInspect, as `version` of the API has it. `tagged_ns` is 0 for never."""
    system, _, rest = image.platform.partition("/")
    architecture, _, variant = rest.partition("/")
    tagged = moments.rfc3339(tagged_ns) if tagged_ns else moments.ZERO
    found: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(names.tags),
        "RepoDigests": list(names.digests),
        "Parent": "",
        "Comment": _comment(image),
        "Created": image.created or moments.ZERO,
        "DockerVersion": _text(image, "docker_version"),
        "Author": _text(image, "author"),
        "Config": dict(image.config) if version >= (1, 50) else {**_OLD_CONFIG, **image.config},
        "Architecture": architecture,
        "Os": system,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": driver_of(snapshotter)},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": tagged},
    }
    if variant:
        found["Variant"] = variant
    if version < (1, 44):
        found["VirtualSize"] = image.size
    if version < (1, 45):  # docker-compose 1.29 reads it
        found["Container"] = _text(image, "container")
        found["ContainerConfig"] = {**_OLD_CONFIG, **image.config}
    if version >= (1, 48):
        found["Descriptor"] = image.target.document()
    if identity:
        found["Identity"] = dict(identity)
    return found


def _comment(image: Image) -> str:
    own = _text(image, "comment")
    entries = _entries(image)
    last = entries[-1].get("comment") if entries else None
    return own or (last if isinstance(last, str) else "")


def _entries(image: Image) -> list[dict[str, Any]]:
    found = image.document.get("history")
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def history(image: Image, names: Names, sizes: list[int]) -> list[dict[str, Any]]:
    """HistoryResponseItem for each step, newest first. `sizes`: of each layer, base first.

    The last step has the image's id; which images the others came from is not recorded anywhere.
    """
    entries = _entries(image) or [{} for _ in sizes]
    found, layer = [], 0
    for entry in entries:
        empty = bool(entry.get("empty_layer"))
        size = sizes[layer] if not empty and layer < len(sizes) else 0
        layer += 0 if empty else 1
        found.append(
            {
                "Comment": str(entry.get("comment") or ""),
                "Created": moments.unix_seconds(entry.get("created")),
                "CreatedBy": str(entry.get("created_by") or ""),
                "Id": "<missing>",
                "Size": size,
                "Tags": None,
            }
        )
    found.reverse()
    if found:
        found[0]["Id"] = image.id
        found[0]["Tags"] = list(names.tags) or None
    return found
