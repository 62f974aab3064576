"""The files a container gets beside its root file system: hosts, hostname, resolv.conf, its log."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from barque.daemon.containers import streams
from barque.daemon.containers.backend import Sandbox
from barque.daemon.containers.container import Container
from barque.daemon.containers.shm import unmount_shm
from barque.daemon.paths import Paths
from barque.daemon.remapping import Remap

FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def write_files(
    paths: Paths, container: Container, sandbox: Sandbox, remap: Remap | None = None
) -> dict[str, str]:
    """Write them anew for a start: destination in the container -> path on the host."""
    directory = paths.container(container.id)
    directory.mkdir(mode=0o710, parents=True, exist_ok=True)
    if remap is not None:
        os.chown(directory, 0, remap.root[1])
    owner = remap.root if remap else None
    config = container.record.config
    full_name = f"{config.hostname}.{config.domainname}".rstrip(".")
    contents = {
        "/etc/hosts": sandbox.hosts,
        "/etc/hostname": f"{full_name}\n",
        "/etc/resolv.conf": sandbox.resolv_conf,
    }
    result = {}
    for destination, text in contents.items():
        path = str(directory / destination.rpartition("/")[2])
        _replace_content(path, text, owner)
        result[destination] = path
    return result


def shared_files(paths: Paths, owner_id: str) -> Mapping[str, str]:
    """The same files of the container whose network is shared."""
    directory = paths.container(owner_id)
    return {destination: str(directory / destination.rpartition("/")[2]) for destination in FILES}


def _replace_content(path: str, text: str, owner: tuple[int, int] | None) -> None:
    """In place: the inode may still be bind-mounted. World-readable whatever our umask."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        os.fchmod(fd, 0o644)
        if owner is not None:
            os.fchown(fd, *owner)


def remove_files(paths: Paths, container_id: str) -> None:
    """Directory, stdio socket, shared memory. Idempotent; nothing is mounted below."""
    streams.remove(paths.stdio_socket(container_id))
    unmount_shm(paths, container_id)
    shutil.rmtree(paths.container(container_id), ignore_errors=False, onerror=_unless_gone)


def _unless_gone(_function: object, _path: str, info: tuple[type, BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
