"""Blobs and manifests on disk, as `paths` draws them. Synchronous; one process writes.

Write order: temporary, verify, fsync, link, fsync the directory; a manifest's name last of all.
A blob that a repository is to use is touched, and its link made, while the collector is held off.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barque.oci import digest as digests
from barque.registryd.paths import LAYOUT, Paths
from barque.registryd.refusals import Refusal

REF_NAME = "org.opencontainers.image.ref.name"
MARKER = b'{"imageLayoutVersion": "1.0.0"}'
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest of a repository."""

    digest: str
    media_type: str
    size: int
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class Repository:
    """What `index.json` says, by digest and by tag."""

    stamp: tuple[int, int] = (0, 0)
    entries: dict[str, Entry] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    referrers: dict[str, dict[str, dict[str, Any]]] | None = None  # subject -> digest -> descriptor


class Store:
    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        for directory in (paths.blobs, paths.uploads, paths.repositories):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._known: dict[str, Repository] = {}

    def close(self) -> None:
        os.close(self._lock)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The collector removes nothing meanwhile."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    # Blobs

    def blob_size(self, name: str, digest: str) -> int | None:
        """Of a blob of this repository; it is in use from now on for the collector."""
        path = self.paths.link(name, digest)
        try:
            os.utime(path)
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def open_blob(self, name: str, digest: str) -> int | None:
        try:
            return os.open(self.paths.link(name, digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def add_blob(self, name: str, digest: str, temporary: Path) -> None:
        """`temporary` has been verified and synced; it becomes the blob of this repository."""
        target = self.paths.blob(digest)
        with self._writing():
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                os.rename(temporary, target)
                _sync(target.parent)
            else:
                temporary.unlink()
            self._link(name, digest)

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Takes a blob over from another repository; False where that does not have it."""
        with self._writing():
            if self.blob_size(source, digest) is None:
                return False
            self._link(name, digest)
            return True

    def _link(self, name: str, digest: str) -> None:
        link = self.paths.link(name, digest)
        if link.exists():
            os.utime(link)
            return
        self._make_layout(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = self.paths.blob(digest)
        try:
            os.link(blob, link)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in {errno.EMLINK, errno.EXDEV, errno.EPERM}:
                raise
            passing = link.with_name(f".{link.name}.part")
            shutil.copyfile(blob, passing)
            os.rename(passing, link)
        os.utime(link)
        _sync(link.parent)

    def _make_layout(self, name: str) -> None:
        marker = self.paths.marker(name)
        if not marker.exists():
            marker.parent.mkdir(parents=True, exist_ok=True)
            replace_file(marker, MARKER)

    def remove_blob(self, name: str, digest: str) -> bool:
        try:
            self.paths.link(name, digest).unlink()
        except FileNotFoundError:
            return False
        return True

    # Manifests

    def repository(self, name: str) -> Repository | None:
        """None where there is none."""
        path = self.paths.index(name)
        try:
            facts = path.stat()
        except FileNotFoundError:
            self._known.pop(name, None)
            return Repository() if self.paths.marker(name).exists() else None
        stamp = (facts.st_mtime_ns, facts.st_ino)
        known = self._known.get(name)
        if known is None or known.stamp != stamp:
            known = self._known[name] = _read_index(path, stamp)
        return known

    def put_manifest(
        self,
        name: str,
        digest: str,
        media_type: str,
        raw: bytes,
        tags: Sequence[str],
        needed: Sequence[str],
    ) -> None:
        """Raises Refusal where the repository lacks one of the blobs `needed`."""
        if not self.paths.link(name, digest).exists():
            temporary = self.paths.uploads / f"m-{digests.parse(digest)[1]}"
            replace_file(temporary, raw)
            self.add_blob(name, digest, temporary)
        with self._writing():
            for blob in (digest, *needed):
                if self.blob_size(name, blob) is None:
                    raise Refusal("MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {blob}")
            repository = self.repository(name) or Repository()
            entries = dict(repository.entries)
            kept = entries[digest].tags if digest in entries else ()
            for tag in tags:
                before = repository.tags.get(tag)
                if before is not None and before != digest:
                    old = entries[before]
                    left = tuple(known for known in old.tags if known != tag)
                    entries[before] = Entry(before, old.media_type, old.size, left)
            every = tuple(dict.fromkeys((*kept, *tags)))
            entries[digest] = Entry(digest, media_type, len(raw), every)
            self._write_index(name, entries)

    def remove_tag(self, name: str, tag: str) -> bool:
        repository = self.repository(name)
        if repository is None or tag not in repository.tags:
            return False
        entries = dict(repository.entries)
        old = entries[repository.tags[tag]]
        left = tuple(known for known in old.tags if known != tag)
        entries[old.digest] = Entry(old.digest, old.media_type, old.size, left)
        self._write_index(name, entries)
        return True

    def remove_manifest(self, name: str, digest: str) -> bool:
        """With all its tags."""
        repository = self.repository(name)
        if repository is None or digest not in repository.entries:
            return False
        entries = {key: entry for key, entry in repository.entries.items() if key != digest}
        self._write_index(name, entries)
        self.remove_blob(name, digest)
        return True

    def _write_index(self, name: str, entries: Mapping[str, Entry]) -> None:
        described: list[dict[str, Any]] = []
        for entry in entries.values():
            one = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
            for tag in entry.tags:
                described.append({**one, "annotations": {REF_NAME: tag}})
            if not entry.tags:
                described.append(one)
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described}
        self._make_layout(name)
        replace_file(self.paths.index(name), json.dumps(document).encode())
        self._known.pop(name, None)

    def read_manifest(self, name: str, digest: str) -> bytes | None:
        try:
            return self.paths.link(name, digest).read_bytes()
        except FileNotFoundError:
            return None

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose `subject` is this. distribution-spec, "Referrers"."""
        repository = self.repository(name)
        if repository is None:
            return []
        if repository.referrers is None:
            repository.referrers = {}
            for entry in repository.entries.values():
                self._refer(name, entry, repository.referrers)
        return list(repository.referrers.get(subject, {}).values())

    def _refer(self, name: str, entry: Entry, table: dict[str, dict[str, dict[str, Any]]]) -> None:
        raw = self.read_manifest(name, entry.digest)
        try:
            document = json.loads(raw or b"{}")
            subject = document["subject"]["digest"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        described = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
        config = document.get("config")
        implied = config.get("mediaType") if isinstance(config, dict) else None
        kind = document.get("artifactType") or implied
        if isinstance(kind, str) and kind:
            described["artifactType"] = kind
        if isinstance(document.get("annotations"), dict) and document["annotations"]:
            described["annotations"] = document["annotations"]
        table.setdefault(str(subject), {})[entry.digest] = described

    def names(self) -> list[str]:
        """Every repository that has a manifest, sorted."""
        found = []
        top = self.paths.repositories
        for directory, inner, _ in os.walk(top):
            if LAYOUT in inner:
                name = str(Path(directory).relative_to(top))
                repository = self.repository(name)
                if repository is not None and repository.entries:
                    found.append(name)
            inner[:] = [word for word in inner if word != LAYOUT]
        return sorted(found)


def _read_index(path: Path, stamp: tuple[int, int]) -> Repository:
    found = Repository(stamp)
    for one in json.loads(path.read_bytes())["manifests"]:
        digest = one["digest"]
        tag = (one.get("annotations") or {}).get(REF_NAME, "")
        known = found.entries.get(digest)
        tags = (*(known.tags if known else ()), *((tag,) if tag else ()))
        found.entries[digest] = Entry(digest, one["mediaType"], one["size"], tags)
        if tag:
            found.tags[tag] = digest
    return found


def replace_file(path: Path, data: bytes) -> None:
    """Whoever reads it sees the old one or the new, after a power cut too."""
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(passing, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(passing, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            passing.unlink()
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
