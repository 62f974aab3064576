"""A bound for each snapshot by project quotas (ext4, xfs): its directory is a project."""

from __future__ import annotations

import os

from barque.errors import Unsupported
from barque.linux import quota

FIRST_PROJECT = 1 << 24  # below are those that an administrator gives out


class ProjectQuota:
    def __init__(self, base: str) -> None:
        """`base` is a directory on the file system in question; it need not exist yet."""
        self._base = base
        self._bounded: set[int] = set()
        self._reason: str | None = None

    @property
    def available(self) -> bool:
        return not self._why_not()

    def bound(self, directory: str, number: int, size: int) -> None:
        """At most `size` bytes in `directory`, which is empty yet. Raises Unsupported."""
        if reason := self._why_not():
            raise Unsupported(f"a snapshot of at most {size} bytes cannot be made: {reason}")
        fd = _opened(directory)
        try:
            self._bounded.add(number)
            quota.limit_project(fd, FIRST_PROJECT + number, size)
            quota.set_project(fd, FIRST_PROJECT + number)
        finally:
            os.close(fd)

    def free(self, number: int) -> None:
        """The bound goes; a number of an earlier run keeps its row in the quota file, unused."""
        if number not in self._bounded:
            return
        self._bounded.discard(number)
        fd = _opened(self._base)
        try:
            quota.limit_project(fd, FIRST_PROJECT + number, 0)
        finally:
            os.close(fd)

    def _why_not(self) -> str:
        if self._reason is None:
            fd = _opened(self._base)
            try:
                quota.project_quotas_on(fd)
                self._reason = ""
            except OSError:
                self._reason = (
                    f"the file system of {self._base} has no project quotas: it must be ext4 or "
                    "xfs, with that feature, mounted with prjquota"
                )
            finally:
                os.close(fd)
        return self._reason


def _opened(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
