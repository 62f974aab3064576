"""A layer applied onto what the mounts of a snapshot make writable, without mounting anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from barque.containerd.diff.apply import Applier
from barque.containerd.diff.decompress import Layer
from barque.containerd.diff.shifted import mapped_ids
from barque.containerd.proto.types_pb2 import Mount
from barque.containerd.room import Room, check_room
from barque.errors import InvalidArgument, Unavailable, Unsupported
from barque.linux.fs import sync_filesystem
from barque.oci import tar


class Target(NamedTuple):
    """Where a layer goes, without mounting anything."""

    directory: str
    overlay: bool
    lowers: tuple[str, ...]
    xattrs: str = "trusted"
    apart: bool = False  # on what is not known yet


def target_of(mounts: Sequence[Mount], *, apart: bool = False) -> Target:
    """The directory that these mounts would make writable. Raises Unsupported for others."""
    if len(mounts) != 1:
        raise Unsupported(f"applying onto {len(mounts)} mounts is not supported")
    mount = mounts[0]
    if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
        if "ro" in mount.options:
            raise InvalidArgument(f"mount of {mount.source} is read-only: invalid argument")
        return Target(mount.source, apart, (), apart=apart)
    if mount.type == "overlay":
        options = dict(option.partition("=")[::2] for option in mount.options)
        if "upperdir" not in options:
            raise InvalidArgument("overlay mount has no upperdir: invalid argument")
        if mapped_ids(mount) is not None:
            raise Unsupported("applying onto an overlay with mapped ids is not supported")
        lowers = tuple(options["lowerdir"].split(":"))
        xattrs = "user" if "userxattr" in options else "trusted"
        return Target(options["upperdir"], True, lowers, xattrs)
    raise Unsupported(f"applying onto a mount of type {mount.type} is not supported")


def apply_layer(fd: int, target: Target, cancelled: threading.Event) -> tuple[str, int]:
    """Apply the layer in `fd`; the digest and size of what it is uncompressed. Blocks."""
    return apply(Layer(fd), target, cancelled)


def apply(
    layer: Layer,
    target: Target,
    cancelled: threading.Event,
    durable: bool = False,
    room: Room = check_room,
) -> tuple[str, int]:
    """As `apply_layer`; `room` is asked before each piece. `durable`: synced when this returns."""
    with _opened(target) as applier:
        events = tar.Reader()
        for piece in layer.pieces():
            if cancelled.is_set():
                raise Unavailable("applying the layer was cancelled")
            room(target.directory, len(piece), "a layer")
            events.feed(piece)
            _take(events, applier)
        events.end()
        _take(events, applier)
        applier.finish()
    if durable:
        sync_filesystem(target.directory)
    return layer.digest, layer.size


def _take(events: tar.Reader, applier: Applier) -> None:
    while (event := events.next_event()) is not None:
        if isinstance(event, tar.Data):
            applier.data(event)
        elif isinstance(event, tar.Entry):
            applier.entry(event)


@contextmanager
def _opened(target: Target) -> Iterator[Applier]:
    with ExitStack() as opened:

        def directory(path: str) -> int:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return fd

        root = directory(target.directory)
        lowers = [directory(path) for path in target.lowers]
        applier = Applier(
            root,
            overlay=target.overlay,
            lowers=lowers,
            xattrs=target.xattrs,
            apart=target.apart,
        )
        opened.callback(applier.close)
        yield applier
