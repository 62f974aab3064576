"""Garbage collection of a registry, while it serves or by itself.

    1. of a cache, manifests that nobody has asked for in a long time go
    2. in each repository, what no manifest leads to and nobody has touched for a while goes
    3. blobs that no repository has any more go
    4. uploads that nobody went on with go

It reads without a lock and deletes under one, looking again: whoever writes holds it shared.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barque.oci import digest as digests
from barque.registryd.manifests import references
from barque.registryd.store import Store

GRACE_S = 3600.0  # between the upload of a blob and the manifest that names it
UPLOAD_LIFE_S = 24 * 3600.0
BATCH = 256  # deletions under one lock: writers wait no longer than this takes


@dataclass(slots=True)
class Collected:
    links: int = 0
    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    uploads: int = 0


class Collector:
    def __init__(
        self, store: Store, grace_s: float = GRACE_S, clock_s: Callable[[], float] = time.time
    ) -> None:
        self._store, self._paths = store, store.paths
        self._grace_s, self._clock_s = grace_s, clock_s

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(self._paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def run(self, *, untagged: bool = False, unused_s: float = 0.0) -> Collected:
        """`untagged`: manifests without a tag that nothing tagged leads to go too.

        `unused_s`: those that nobody has asked for in so long, tagged or not; 0 for none.
        """
        done = Collected()
        for name in self._names():
            if unused_s:
                done.manifests += self._drop_unused(name, unused_s)
            if untagged:
                done.manifests += self._drop_untagged(name)
            done.links += self._sweep(name)
        self._sweep_blobs(done)
        self._sweep_uploads(done)
        return done

    def _names(self) -> list[str]:
        top = self._paths.repositories
        marks = top.rglob(self._paths.marker("x").name)
        return [str(mark.parent.parent.relative_to(top)) for mark in marks]

    def _drop_untagged(self, name: str) -> int:
        repository = self._store.repository(name)
        if repository is None:
            return 0
        kept = set(repository.tags.values())
        queue = list(kept)
        while queue:
            digest = queue.pop()
            raw = self._store.read_manifest(name, digest) or b"{}"
            found = set(references(raw)) & repository.entries.keys()
            found |= {str(one["digest"]) for one in self._store.referrers(name, digest)}
            queue += found - kept
            kept |= found
        gone = 0
        for digest in repository.entries.keys() - kept:
            with self._alone():
                now = self._store.repository(name)
                if now is not None and not now.entries[digest].tags and self._old(name, digest):
                    gone += self._store.remove_manifest(name, digest)
        return gone

    def _drop_unused(self, name: str, unused_s: float) -> int:
        repository, gone = self._store.repository(name), 0
        for digest in repository.entries if repository is not None else ():
            link = self._paths.link(name, digest)
            if self._is_old(link, unused_s):
                with self._alone():
                    if self._is_old(link, unused_s):
                        gone += self._store.remove_manifest(name, digest)
        return gone

    def _old(self, name: str, digest: str) -> bool:
        return self._is_old(self._paths.link(name, digest), self._grace_s)

    def _is_old(self, path: Path, age_s: float) -> bool:
        try:
            return path.lstat().st_ctime <= self._clock_s() - age_s
        except FileNotFoundError:
            return False

    def _marked(self, name: str) -> tuple[set[str], tuple[int, int]]:
        repository = self._store.repository(name)
        if repository is None:
            return set(), (0, 0)
        marked = set(repository.entries)
        for digest in repository.entries:
            marked.update(references(self._store.read_manifest(name, digest) or b"{}"))
        return marked, repository.stamp

    def _sweep(self, name: str) -> int:
        marked, stamp = self._marked(name)
        found = [
            f"{algorithm.name}:{link.name}"
            for algorithm in self._paths.links(name).glob("*")
            for link in algorithm.iterdir()
        ]
        digits = [digest for digest in found if digests.is_valid(digest)]
        candidates = [one for one in digits if one not in marked and self._old(name, one)]
        gone = 0
        for start in range(0, len(candidates), BATCH):
            with self._alone():
                now = self._store.repository(name)
                if (now.stamp if now else (0, 0)) != stamp:
                    return gone  # next time
                for digest in candidates[start : start + BATCH]:
                    if self._old(name, digest):
                        gone += self._store.remove_blob(name, digest)
        return gone

    def _sweep_blobs(self, done: Collected) -> None:
        """A link is made under the lock that a blob is, so one without links is nobody's."""
        for path in list(self._paths.blobs.glob("*/*")):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_nlink == 1:
                    self._remove_blob(path, done)

    def _remove_blob(self, path: Path, done: Collected) -> None:
        with self._alone():
            facts = path.lstat()
            if facts.st_nlink == 1:
                path.unlink()
                done.blobs += 1
                done.bytes += facts.st_size

    def _sweep_uploads(self, done: Collected) -> None:
        for path in self._paths.uploads.iterdir():
            try:
                old = path.stat().st_mtime < self._clock_s() - UPLOAD_LIFE_S
            except FileNotFoundError:
                continue
            name = path.with_name(f"{path.name}.name")
            if old and not (path.suffix == ".name" and path.with_suffix("").exists()):
                path.unlink(missing_ok=True)
                name.unlink(missing_ok=True)
                done.uploads += 1
