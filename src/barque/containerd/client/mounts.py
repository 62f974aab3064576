"""How a snapshot is seen: what the snapshots service gives and tasks and diffs take."""

from __future__ import annotations

from dataclasses import dataclass

from barque.containerd.proto.types_pb2 import Mount as MountMessage


@dataclass(frozen=True, slots=True)
class Mount:
    type: str
    source: str
    options: tuple[str, ...] = ()
    target: str = ""


def from_message(message: MountMessage) -> Mount:
    return Mount(message.type, message.source, tuple(message.options), message.target)


def to_message(mount: Mount) -> MountMessage:
    return MountMessage(
        type=mount.type, source=mount.source, target=mount.target, options=mount.options
    )
