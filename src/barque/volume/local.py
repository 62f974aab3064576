"""The local volume driver: directories. Synchronous; every step may be done again.

A volume is removed by one rename, so that a crash leaves either the whole volume or none of it;
what the rename left is deleted then or at the next start. Deletion never crosses a mount point.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from barque import errors
from barque.linux.fs import remove_at, remove_tree, sync_directory, sync_filesystem
from barque.linux.mount import (
    MNT_DETACH,
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    UMOUNT_NOFOLLOW,
    mount,
    umount2,
)
from barque.linux.whole_file import exchange, rename_new
from barque.volume import quota
from barque.volume.options import MountPlan
from barque.volume.paths import DATA, REMOVED_PREFIX, Paths

COPIED, ABSENT = 0, 3  # exit codes of `copier`

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
MAX_NAME_BYTES = 255
_ESCAPED = re.compile(r"\\([0-7]{3})")
COPY_TIMEOUT_S = 3600.0


def check_name(name: str) -> str:
    """A volume name, safe as a path component. Raises InvalidArgument with Docker's words."""
    if len(name) == 1:
        raise errors.InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not NAME.match(name) or len(name) > MAX_NAME_BYTES:
        raise errors.InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    return name


def mount_points() -> list[str]:
    """Where something is mounted, as this process sees it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        points = [line.split(" ", 5)[4] for line in lines]
    return [_ESCAPED.sub(lambda found: chr(int(found[1], 8)), point) for point in points]


def is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def _resolved(server: str) -> str:
    """The address of a file server. Raises OSError."""
    return str(socket.getaddrinfo(server, None, proto=socket.IPPROTO_TCP)[0][4][0])


class LocalVolumes:
    """`copier_argv` starts the program that copies an image's content (see `copier`)."""

    def __init__(
        self, root: Path, copier_argv: Sequence[str], owner: tuple[int, int] | None = None
    ) -> None:
        """`owner` is whom new volumes belong to: root of containers that are remapped."""
        self._paths = Paths(root)
        self._owner = owner
        self._copier_argv = list(copier_argv)

    def data_path(self, name: str) -> Path:
        return self._paths.data(name)

    def exists(self, name: str) -> bool:
        return self._paths.data(name).is_dir()

    def create(self, name: str, size: int = 0) -> Path:
        """Make the volume's directories, durably; returns where its data is.

        `size` is how many bytes it may hold, 0 for no limit. Raises InvalidArgument where the file
        system has no quotas; nothing is left then.
        """
        data = self._paths.data(check_name(name))
        if not data.is_dir():
            try:
                self._paths.volume(name).mkdir(mode=0o701, exist_ok=True)
                data.mkdir(mode=0o755, exist_ok=True)
                if self._owner is not None:
                    os.chown(data, *self._owner)
            except OSError as error:
                raise errors.BarqueError(f"create {name}: {error.strerror}: {data}") from error
            try:
                if size:
                    quota.limit(name, data, size)
            except BaseException:
                self._remove_empty(self._paths.volume(name))
                raise
            sync_directory(data.parent)
            sync_directory(self._paths.root)
        return data

    def is_mounted(self, name: str) -> bool:
        """Whether something is mounted on the volume's data."""
        return str(self._paths.data(name)) in mount_points()

    def mount(self, name: str, plan: MountPlan) -> None:
        """Mount what the volume's options say. One that is mounted already stays."""
        if self.is_mounted(name):
            return
        target = str(self._paths.data(name))
        data = plan.data
        try:
            if plan.server:
                data = data.replace(f"addr={plan.server}", f"addr={_resolved(plan.server)}")
            mount(plan.source, target, plan.fstype, plan.flags, data or None)
            if plan.flags & MS_BIND and plan.flags & MS_RDONLY:
                mount(None, target, None, plan.flags | MS_REMOUNT)
            for propagation in plan.propagation:
                mount(None, target, None, propagation)
        except OSError as error:
            self.unmount(name)
            number = error.errno or 0  # below 0 for a name that is not found
            reason = os.strerror(number) if number > 0 else str(error)
            raise errors.BarqueError(
                f"error while mounting volume '{target}': failed to mount local volume: mount "
                f"{plan.source}:{target}, data: {data}: {reason.lower()}"
            ) from error

    def unmount(self, name: str) -> None:
        """Undo `mount`. Safe to run twice; what still uses the mount keeps it."""
        while self.is_mounted(name):
            umount2(self._paths.data(name), MNT_DETACH | UMOUNT_NOFOLLOW)

    def discard(self, name: str) -> Path | None:
        """Take the volume away in one step; returns what is then to be given to `delete`."""
        removed = self._paths.removed(secrets.token_hex(8))
        try:
            self._paths.volume(check_name(name)).rename(removed)
        except FileNotFoundError:
            return None
        sync_directory(self._paths.root)
        return removed

    def stage(self, size: int = 0) -> Path:
        """A volume without a name, to be filled; `install` or `swap` gives it one.

        What has none at the next start is deleted then, as volumes under removal are.
        """
        staged = self._paths.removed(secrets.token_hex(8))
        staged.mkdir(mode=0o701)
        (staged / DATA).mkdir(mode=0o755)
        try:
            if self._owner is not None:
                os.chown(staged / DATA, *self._owner)
            if size:
                quota.limit(staged.name, staged / DATA, size)
        except BaseException:
            self._remove_empty(staged)
            raise
        return staged

    def install(self, staged: Path, name: str) -> None:
        """Give a filled volume its name, durably. Raises Conflict when a directory has it."""
        sync_filesystem(staged)
        try:
            rename_new(staged, self._paths.volume(check_name(name)))
        except FileExistsError:
            raise errors.Conflict(
                f"create {name}: a directory of that name is there: {self._paths.volume(name)}"
            ) from None
        sync_directory(self._paths.root)

    def swap(self, staged: Path, name: str) -> None:
        """Let the volume have the data of `staged`, which gets the volume's, in one step."""
        sync_filesystem(staged)
        exchange(staged / DATA, self._paths.data(name))
        self._paths.copying(name).unlink(missing_ok=True)
        sync_directory(self._paths.volume(name))

    def mounted_inside(self, name: str) -> str | None:
        """A mount point inside the volume, None when there is none."""
        inside = str(self._paths.volume(name)) + "/"
        return next((point for point in mount_points() if point.startswith(inside)), None)

    def delete(self, removed: Path) -> None:
        """Delete a discarded volume. Raises BarqueError when something is mounted inside."""
        project = quota.project(removed / DATA)
        try:
            remove_tree(removed)
            quota.forget(self._paths.root, project)
        except OSError as error:
            raise errors.BarqueError(f"volume data not removed: {error}") from error

    def sweep(self, known: Iterable[str]) -> list[str]:
        """After a crash: delete what was under removal and empty volumes nobody recorded.

        Returns the names of directories that are in no record but have content: they are kept.
        """
        names = set(known)
        kept: list[str] = []
        for path in sorted(self._paths.root.iterdir()):
            if path.name.startswith(REMOVED_PREFIX):
                with suppress(errors.BarqueError):
                    self.delete(path)
            elif path.name not in names and not self._remove_empty(path):
                kept.append(path.name)
        return kept

    def _remove_empty(self, volume: Path) -> bool:
        try:
            with suppress(FileNotFoundError):
                (volume / DATA).rmdir()
            volume.rmdir()
        except OSError:
            return False
        return True

    def size_bytes(self, name: str) -> int:
        """What the volume's files occupy, links counted once; 0 of a volume that has just gone."""
        with suppress(FileNotFoundError):
            return self._occupied(self._paths.data(name))
        return 0

    def _occupied(self, data: Path) -> int:
        seen: set[tuple[int, int]] = set()
        total = 0
        for directory, _, files, fd in os.fwalk(data, follow_symlinks=False):
            del directory
            for file in files:
                with suppress(FileNotFoundError):
                    facts = os.stat(file, dir_fd=fd, follow_symlinks=False)
                    if (facts.st_dev, facts.st_ino) not in seen:
                        seen.add((facts.st_dev, facts.st_ino))
                        total += facts.st_blocks * 512
        return total

    def is_untouched(self, name: str) -> bool:
        """Whether an image's content may still be copied in: empty, or such a copy broke off."""
        return self._paths.copying(name).exists() or is_empty(self._paths.data(name))

    def populate(
        self, name: str, layers: Sequence[str], path: str, ids: Mapping[str, str] | None = None
    ) -> bool:
        """Copy directory `path` of the image in `layers` (top first) into an empty volume.

        Owner and mode of the directory become the volume's. Whether anything was copied: not if the
        volume has content or the image has no such directory. A copy that breaks off is begun again
        by the next call. `ids` (`uids`, `gids`: lines of uid_map) are on the disk others than in
        the image.
        """
        if not self.is_untouched(name):
            return False
        marker, data = self._paths.copying(name), self._paths.data(name)
        if marker.exists():
            self._empty(data)
        marker.touch()
        copied = self.fill(name, data, layers, path, ids)
        sync_directory(data)
        marker.unlink()
        return copied

    def fill(
        self,
        name: str,
        data: Path,
        layers: Sequence[str],
        path: str,
        ids: Mapping[str, str] | None = None,
    ) -> bool:
        """As `populate`, into any directory `data`, whatever is in it."""
        request: dict[str, Any] = {"layers": list(layers), "path": path, "target": str(data)}
        if ids:
            request["ids"] = dict(ids)
        return self._copy(name, json.dumps(request).encode())

    def _empty(self, data: Path) -> None:
        directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for entry in os.listdir(directory):
                remove_at(directory, entry)
        finally:
            os.close(directory)

    def _copy(self, name: str, request: bytes) -> bool:
        try:
            done = subprocess.run(
                self._copier_argv,
                input=request,
                capture_output=True,
                timeout=COPY_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise errors.Timeout(
                f"copying image content into volume {name} takes too long"
            ) from None
        if done.returncode not in {COPIED, ABSENT}:
            words = done.stderr.decode(errors="replace").strip().splitlines() or ["it was killed"]
            raise errors.BarqueError(f"failed to populate volume {name}: {words[-1]}")
        return done.returncode == COPIED
