"""The `size` of a volume: a project of its own on a file system that has project quotas.

The project is known by the volume's directory alone, so nothing else remembers it.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from barque import errors
from barque.linux import quota

TRIES = 100
FIRST_PROJECT, LAST_PROJECT = 1 << 30, (1 << 31) - 1  # smaller ones are others'
MAX_BYTES = 1 << 60
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([kmgtp]?)i?b?\Z", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def parse_size(name: str, text: str) -> int:
    """Bytes of Docker's notation: 10m, 1.5G, 4096; binary units. Raises InvalidArgument."""
    found = _SIZE.match(text)
    size = int(float(found[1]) * (1 << _UNITS[found[2].lower()])) if found else 0
    if found is None or size > MAX_BYTES:
        raise errors.InvalidArgument(f"create {name}: invalid size: '{text}'")
    return size


def limit(name: str, directory: Path, size: int) -> None:
    """All of an empty `directory` may hold `size` bytes. Raises InvalidArgument where it cannot."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        project = quota.project_of(fd)
        if project < FIRST_PROJECT:
            project = _free_project(fd)
        quota.limit_project(fd, project, size)
        quota.set_project(fd, project)
    except OSError as error:
        raise errors.InvalidArgument(
            f"create {name}: quota size requested but no quota support: "
            f"{(error.strerror or '').lower()}: {directory}"
        ) from error
    finally:
        os.close(fd)


def _free_project(fd: int) -> int:
    for _ in range(TRIES):
        project = FIRST_PROJECT + secrets.randbelow(LAST_PROJECT - FIRST_PROJECT)
        if not quota.is_used(fd, project):
            return project
    raise errors.ResourceExhausted("no free quota project")


def project(directory: Path) -> int:
    """What `limit` gave the directory, 0 for none."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        found = quota.project_of(fd)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return found if found >= FIRST_PROJECT else 0


def forget(root: Path, project: int) -> None:
    """The project has no limit any more; for one whose directory is gone."""
    if not project:
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # quotas may have been switched off since
            quota.limit_project(fd, project, 0)
    finally:
        os.close(fd)
