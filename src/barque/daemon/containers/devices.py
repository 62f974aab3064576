"""Device nodes of the host that a container asks for: `--device`, `--privileged`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from barque import errors
from barque.daemon.containers.documents import DeviceMapping
from barque.daemon.containers.start_facts import Device

_NOT_COPIED = frozenset(
    {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", ".devices", "console"}
)
MAX_DEVICES = 4096


def asked(mappings: Iterable[DeviceMapping]) -> list[Device]:
    """Each `--device`, a directory as all the devices below it. Raises InvalidArgument."""
    result: list[Device] = []
    for mapping in mappings:
        access = mapping.cgroup_permissions or "rwm"
        if not set(access) <= set("rwm") or len(access) > 3:
            raise errors.InvalidArgument(f"invalid device mode: {access}")
        if "=" in mapping.path_on_host and not mapping.path_on_host.startswith("/"):
            raise errors.Unsupported(
                f"devices by name (CDI) are not there yet: {mapping.path_on_host}"
            )
        result += _mapped(mapping.path_on_host, mapping.path_in_container, access)
    return result


def _mapped(source: str, destination: str, access: str) -> list[Device]:
    try:
        status = os.stat(source)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise errors.InvalidArgument(
            f'error gathering device information while adding custom device "{source}": {reason}'
        ) from None
    target = destination or source
    if stat.S_ISDIR(status.st_mode):
        found = [
            _device(path, below, target + path.removeprefix(source), access)
            for path, below in _below(source)
        ]
        if found:
            return found
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise errors.InvalidArgument(
            f'error gathering device information while adding custom device "{source}": '
            "not a device node"
        )
    return [_device(source, status, target, access)]


def _device(path: str, status: os.stat_result, destination: str, access: str) -> Device:
    return Device(
        path=destination or path,
        kind="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def all_of_host() -> list[Device]:
    """For `--privileged`: every device node of /dev, but what a container has of its own."""
    return [_device(path, status, path, "rwm") for path, status in _below("/dev")]


def _below(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    count = 0
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(set(directories) - _NOT_COPIED)
        for name in sorted(files):
            path = f"{parent}/{name}"
            if name in _NOT_COPIED:
                continue
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                count += 1
                if count > MAX_DEVICES:
                    raise errors.ResourceExhausted(
                        f"more than {MAX_DEVICES} devices in {directory}"
                    )
                yield path, status
