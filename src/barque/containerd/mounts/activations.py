"""Activations on disk and in the kernel: what was mounted for a name, until it is taken away.

    <state>/mounts/<hash of namespace and name>/
        0, 1, ...     where each mount lies, in the order they were made
        record        written last: without it a start has not ended, and is undone at the next run

One thread does all, one after another; its working directory is its own (see `overlay` in
`barque.shim.rootfs`, which changes it).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from barque.containerd.mounts import plan
from barque.containerd.proto.types_pb2 import ActivationInfo, ActiveMount, Mount
from barque.containerd.threads import finished
from barque.errors import AlreadyExists, BarqueError, Conflict, InvalidArgument, NotFound
from barque.linux import fs
from barque.linux.namespaces import unshare
from barque.linux.process import CLONE_FS
from barque.shim import rootfs

RECORD = "record"
MOUNTS_MAX = 255
WITHIN = fs.RESOLVE_BENEATH | fs.RESOLVE_NO_MAGICLINKS | fs.RESOLVE_NO_SYMLINKS

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    namespace: str
    info: ActivationInfo


class Activations:
    def __init__(self, directory: Path, root: Path) -> None:
        """`root`: where directories may be made for mounts, beside their own."""
        self._directory, self._root = directory, root
        self._worker = ThreadPoolExecutor(1, "mounts", partial(unshare, CLONE_FS))
        self._swept = False

    async def activate(
        self, namespace: str, info: ActivationInfo, mounts: Sequence[Mount], *, temporary: bool
    ) -> ActivationInfo:
        """Make what has to be made, and say what is left to the client.

        `info` has name and labels. Raises AlreadyExists, InvalidArgument, Unsupported, and what the
        kernel says; then nothing is left.
        """
        if len(mounts) > MOUNTS_MAX:
            raise InvalidArgument(f"{len(mounts)} mounts are more than {MOUNTS_MAX}")
        count = plan.made_here(mounts, temporary)
        work = partial(self._activate, namespace, info, mounts, count, temporary)
        try:
            return await finished(self._worker, work)
        except OSError as error:
            raise BarqueError(f'mount "{info.name}": {error}') from error

    async def deactivate(self, namespace: str, name: str) -> None:
        """Take its mounts away. Raises NotFound."""
        await finished(self._worker, partial(self._deactivate, namespace, name))

    async def find(self, namespace: str, name: str) -> ActivationInfo:
        """Raises NotFound."""
        return await finished(self._worker, partial(self._find, namespace, name))

    async def all(self, namespace: str) -> list[ActivationInfo]:
        def found() -> list[ActivationInfo]:
            return [kept.info for kept in self._all() if kept.namespace == namespace]

        return await finished(self._worker, found)

    def close(self) -> None:
        """The mounts stay."""
        self._worker.shutdown()

    # On the worker

    def _activate(
        self,
        namespace: str,
        info: ActivationInfo,
        mounts: Sequence[Mount],
        count: int,
        temporary: bool,
    ) -> ActivationInfo:
        self._sweep()
        directory = self._place(namespace, info.name)
        try:
            directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise AlreadyExists(f'mount "{info.name}": already exists') from None
        with ExitStack() as undo:
            undo.callback(take_away, directory)
            for index, mount in enumerate(mounts):
                mount = self._transformed(mount, info.active, directory)
                if index < count:
                    info.active.append(_made(mount, directory / str(index)))
                else:
                    info.system.append(mount)
            if temporary and info.active:
                last = info.active[-1].mount_point
                info.system.append(Mount(type="bind", source=last, options=["rbind"]))
            record = {"namespace": namespace, "info": info.SerializeToString().hex()}
            fs.write_atomic(str(directory / RECORD), json.dumps(record).encode())
            undo.pop_all()
        return info

    def _transformed(self, mount: Mount, active: Sequence[ActiveMount], directory: Path) -> Mount:
        transforms, kind = plan.split(mount.type)
        for transform in transforms:
            if transform == plan.FORMAT:
                mount = plan.formatted(mount, active)
            else:
                wanted, mount = plan.directories(mount)
                for one in wanted:
                    self._make(one, directory)
        return Mount(type=kind, source=mount.source, target=mount.target, options=mount.options)

    def _make(self, wanted: plan.Directory, own: Path) -> None:
        """A directory below our root or the activation's own. One that is there stays as it is."""
        path = os.path.normpath(wanted.path)
        base = next((str(b) for b in (own, self._root) if path.startswith(f"{b}/")), None)
        if base is None:
            raise InvalidArgument(f"mkdir path {wanted.path!r} is not below {self._root}")
        parent, name = os.path.split(os.path.relpath(path, base))
        flags = os.O_RDONLY | os.O_DIRECTORY
        with ExitStack() as held:
            top = os.open(base, flags | os.O_CLOEXEC)
            held.callback(os.close, top)
            above = fs.openat2(top, parent or ".", flags, resolve=WITHIN)
            held.callback(os.close, above)
            with suppress(FileExistsError):
                os.mkdir(name, wanted.mode, dir_fd=above)
                made = fs.openat2(above, name, flags, resolve=WITHIN)
                held.callback(os.close, made)
                os.fchmod(made, wanted.mode)
                if wanted.owner is not None:
                    os.fchown(made, *wanted.owner)
                return
            try:
                held.callback(os.close, fs.openat2(above, name, flags, resolve=WITHIN))
            except OSError as error:
                raise Conflict(f"mkdir path {wanted.path!r} is no directory: {error}") from error

    def _deactivate(self, namespace: str, name: str) -> None:
        self._find(namespace, name)
        directory = self._place(namespace, name)
        (directory / RECORD).unlink()
        take_away(directory)

    def _find(self, namespace: str, name: str) -> ActivationInfo:
        self._sweep()
        kept = read(self._place(namespace, name))
        if kept is None:
            raise NotFound(f'mount "{name}": not found')
        return kept.info

    def _all(self) -> Iterator[Kept]:
        self._sweep()
        for directory in self._directories():
            if (kept := read(directory)) is not None:
                yield kept

    def _sweep(self) -> None:
        """Once: take away what a crash left half made, or half taken away."""
        if self._swept:
            return
        self._swept = True
        for directory in self._directories():
            if read(directory) is None:
                try:
                    take_away(directory)
                except OSError as error:
                    log.error("removing half an activation at %s: %s", directory, error)

    def _directories(self) -> list[Path]:
        return sorted(self._directory.iterdir()) if self._directory.is_dir() else []

    def _place(self, namespace: str, name: str) -> Path:
        digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()
        return self._directory / digest[:24]


def _made(mount: Mount, place: Path) -> ActiveMount:
    """`mount` at `place`, which is made for it."""
    place.mkdir(mode=0o700)
    entry = {"type": mount.type, "source": mount.source, "options": list(mount.options)}
    rootfs.mount(entry, str(place))
    made = ActiveMount(mount=mount, mount_point=str(place))
    made.mounted_at.FromNanoseconds(time.time_ns())
    return made


def read(directory: Path) -> Kept | None:
    """What is active there; None for what is half made or half taken away."""
    try:
        document = json.loads((directory / RECORD).read_bytes())
        info = ActivationInfo.FromString(bytes.fromhex(document["info"]))
        return Kept(document["namespace"], info)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def take_away(directory: Path) -> None:
    """Unmount, the last first, and remove the directory; never what lies in a mount."""
    numbers = [int(path.name) for path in directory.iterdir() if path.name.isdecimal()]
    for number in sorted(numbers, reverse=True):
        place = directory / str(number)
        rootfs.unmount(str(place))
        place.rmdir()
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
