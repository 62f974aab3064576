"""What is asked of a list of mounts, read from their types and options. Nothing is done here.

Source: containerd, docs/mounts.md and core/mount/manager.go.

    type     TRANSFORM/.../KIND: transforms are applied in this order
    format/  `{{ source N }}`, `{{ target N }}`, `{{ mount N }}`, `{{ overlay A B }}` in source,
             target and options: of the mounts made before
    mkdir/   options `X-containerd.mkdir.path=PATH[:MODE[:UID:GID]]`: directories made first
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from barque.containerd.proto.types_pb2 import ActiveMount, Mount
from barque.errors import InvalidArgument, Unsupported

FORMAT, MKDIR = "format", "mkdir"
REFUSED = ("mkfs",)  # transforms of containerd's that are not here
HANDLED = ("loop",)  # kinds that containerd itself has a handler for, and we have not
TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
MKDIR_OPTION = "X-containerd.mkdir."
ID_MAX = (1 << 31) - 1


class Directory(NamedTuple):
    path: str
    mode: int
    owner: tuple[int, int] | None


def split(kind: str) -> tuple[list[str], str]:
    """The transforms of a mount's type, and the type that is left. Raises Unsupported."""
    transforms = []
    while (head := kind.partition("/"))[1] and head[0] in (FORMAT, MKDIR, *REFUSED):
        if head[0] in REFUSED:
            raise Unsupported(f"mounts transformed by {head[0]} are not supported")
        transforms.append(head[0])
        kind = head[2]
    if kind in HANDLED:
        raise Unsupported(f"mounts of type {kind} are not supported")
    return transforms, kind


def made_here(mounts: Sequence[Mount], temporary: bool) -> int:
    """How many of the mounts, from the first on, the server makes: the others are its client's.

    Raises Unsupported when there is nothing to do but what the client can do itself.
    """
    if temporary:
        return len(mounts)
    changed = [index for index, mount in enumerate(mounts) if split(mount.type)[0]]
    if not changed:
        raise Unsupported("none of the mounts needs to be activated: not implemented")
    return changed[-1]


def formatted(mount: Mount, active: Sequence[ActiveMount]) -> Mount:
    """`mount` with what its templates stand for. Raises InvalidArgument."""

    def filled(text: str) -> str:
        return TEMPLATE.sub(lambda match: _value(match.group(1).split(), active), text)

    return Mount(
        type=mount.type,
        source=filled(mount.source),
        target=filled(mount.target),
        options=map(filled, mount.options),
    )


def _value(words: list[str], active: Sequence[ActiveMount]) -> str:
    name, numbers = words[0] if words else "", words[1:]
    if not all(number.isdecimal() and int(number) < len(active) for number in numbers):
        raise InvalidArgument(f"template {' '.join(words)!r}: {len(active)} mounts are active")
    match name, [active[int(number)] for number in numbers]:
        case "source", [one]:
            return one.mount.source
        case "target", [one]:
            return one.mount.target
        case "mount", [one]:
            return one.mount_point
        case "overlay", [_, _]:
            return ":".join(active[index].mount_point for index in _range(*map(int, numbers)))
    raise InvalidArgument(f"template {' '.join(words)!r} is not known")


def _range(first: int, last: int) -> range:
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)


def directories(mount: Mount) -> tuple[list[Directory], Mount]:
    """What `mkdir` is to make, and the mount without those options. Raises InvalidArgument."""
    found = [option for option in mount.options if option.startswith(MKDIR_OPTION)]
    rest = [option for option in mount.options if not option.startswith(MKDIR_OPTION)]
    made = [_directory(option) for option in found]
    return made, Mount(type=mount.type, source=mount.source, target=mount.target, options=rest)


def _directory(option: str) -> Directory:
    name, _, value = option.removeprefix(MKDIR_OPTION).partition("=")
    path, *more = value.split(":")
    owner = None
    try:
        if name != "path" or not path.startswith("/") or len(more) not in (0, 1, 3):
            raise ValueError
        mode = int(more[0], 8) if more else 0o700
        if len(more) == 3:
            owner = (int(more[1]), int(more[2]))
        if not 0 <= mode <= 0o777 or not all(0 <= id <= ID_MAX for id in owner or ()):
            raise ValueError
    except ValueError:
        raise InvalidArgument(f"invalid mkdir option {option!r}") from None
    return Directory(path, mode, owner)
