"""The bundle of a task or a sandbox: the directory that a shim and a runtime work in.

    <state>/io.containerd.runtime.v2.task/<namespace>/<id>/
        config.json     the OCI runtime spec; a sandbox need not have one
        rootfs/         where the shim mounts the rootfs it is given; the only mount point in here
        work/           for what the shim keeps (checkpoints)
        shim.json       ours: which shim holds it, and where it listens
        exited          ours, of a sandbox: its exit has been told
        address, log    the shim's own

Removal renames the directory out of sight first, so a half removed bundle is never loaded.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from barque.errors import AlreadyExists
from barque.linux.fs import write_all
from barque.linux.mount import MNT_DETACH, UMOUNT_NOFOLLOW, umount2

USER_NAMESPACE = re.compile(rb'"type"\s*:\s*"user"')


class ShimRecord(NamedTuple):
    """What is needed to find a bundle's shim again after a restart."""

    runtime: str
    address: str  # empty until the start has succeeded
    version: int  # of the Task service
    sandbox: str = ""  # whose shim it is, of a task that is in one
    protocol: str = "ttrpc"


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    namespace: str
    id: str

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    def write_record(self, record: ShimRecord) -> None:
        """Keep `record`; it is whole or not there whatever happens."""
        temporary = f"{self.path}/.shim.json"
        _write(temporary, json.dumps(record._asdict()).encode(), os.O_TRUNC)
        os.rename(temporary, f"{self.path}/shim.json")

    def record(self) -> ShimRecord | None:
        """The record as last written; None when a start was not finished."""
        try:
            document: dict[str, Any] = json.loads((self.path / "shim.json").read_bytes())
            return ShimRecord(
                document["runtime"],
                document["address"],
                document["version"],
                document.get("sandbox", ""),
                document.get("protocol", "ttrpc"),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def mark_exit(self) -> bool:
        """Note that the exit of what is in here is told; False: it was already, or all is gone."""
        try:
            (self.path / "exited").touch(exist_ok=False)
        except OSError:
            return False
        return True

    def hide(self) -> Path | None:
        """Unmount the rootfs and take the directory out of sight; where it is now.

        From here on the id is free and `remove_hidden` may take its time. None: it was gone.
        """
        unmount_all(self.rootfs)
        hidden = self.path.with_name(f".{self.id}.{secrets.token_hex(4)}")
        try:
            self.path.rename(hidden)
        except FileNotFoundError:
            return None
        return hidden

    def remove(self) -> None:
        """Remove the directory whole. Safe to repeat; never crosses a mount."""
        hidden = self.hide()
        if hidden is not None:
            remove_hidden(hidden)


def create_bundle(directory: Path, namespace: str, id: str, spec: bytes, runtime: str) -> Bundle:
    """Make the bundle of a new task or sandbox. Raises AlreadyExists when there is one.

    The runtime's name is kept from the beginning: after a crash during the start, the right shim
    can clean up.
    """
    bundle = Bundle(directory, namespace, id)
    try:
        try:
            os.mkdir(directory, 0o700)  # nobody else runs what is setuid in a container
        except FileNotFoundError:
            directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            os.mkdir(directory, 0o700)
    except FileExistsError as error:
        raise AlreadyExists(f"bundle {directory}: already exists") from error
    with ExitStack() as undo:
        undo.callback(bundle.remove)
        _open_to_its_root(directory, spec)
        os.mkdir(f"{directory}/rootfs", 0o711)
        os.mkdir(f"{directory}/work", 0o700)
        if spec:
            _write(f"{directory}/config.json", spec, os.O_EXCL)
        bundle.write_record(ShimRecord(runtime, "", 2))
        undo.pop_all()
    return bundle


def _write(path: str, data: bytes, flag: int) -> None:
    """In bare calls: two files are written before a shim can be started."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def _open_to_its_root(directory: Path, spec: bytes) -> None:
    """The root of a container's user namespace, which is not ours, walks to the rootfs.

    By its group, as containerd has it; for a namespace that was made elsewhere that is not known.
    """
    if not USER_NAMESPACE.search(spec):
        return
    linux = json.loads(spec).get("linux") or {}
    for mapping in linux.get("gidMappings") or ():
        if mapping.get("containerID") == 0:
            os.chown(directory, -1, mapping.get("hostID", 0))
            directory.chmod(0o710)
            return
    directory.chmod(0o711)


def unmount_all(target: Path) -> None:
    """Detach every mount on top of `target`; none there is fine. Never follows a link."""
    while True:
        try:
            umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def remove_hidden(hidden: Path) -> None:
    """Remove a hidden bundle. `rootfs` must be an empty directory: whatever is there is kept."""
    unmount_all(hidden / "rootfs")
    with suppress(FileNotFoundError):
        (hidden / "rootfs").rmdir()
    shutil.rmtree(hidden, ignore_errors=False, onerror=_unless_gone)


def _unless_gone(function: object, path: str, failure: Any) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
