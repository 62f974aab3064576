"""Where the registry keeps what it was given. The only place that joins these paths.

    <root>/
      lock                                    held shared by writers, exclusive by the collector
      blobs/<algorithm>/<digits>              every blob once
      uploads/<id>                            bytes of uploads under way; <id>.name: its repository
      repositories/<name>/_oci/               one OCI image layout a repository:
        oci-layout  index.json                  all its manifests, tags as annotations
        blobs/<algorithm>/<digits>              its blobs, hard links to the ones above

No part of a repository's name begins with "_", so a repository may lie within another. A blob is
in a repository when its link is there: no database knows more, and any tool that reads an OCI
layout can read a repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barque.oci import digest as digests

DEFAULT_ROOT = "/var/lib/barque/registry"
LAYOUT = "_oci"


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def repositories(self) -> Path:
        return self.root / "repositories"

    def blob(self, digest: str) -> Path:
        algorithm, digits = digests.parse(digest)
        return self.blobs / algorithm / digits

    def upload(self, id: str) -> Path:
        return self.uploads / id

    def upload_name(self, id: str) -> Path:
        return self.uploads / f"{id}.name"

    def layout(self, name: str) -> Path:
        """`name` has been checked: see `names.check_name`."""
        return self.repositories / name / LAYOUT

    def index(self, name: str) -> Path:
        return self.layout(name) / "index.json"

    def marker(self, name: str) -> Path:
        return self.layout(name) / "oci-layout"

    def links(self, name: str) -> Path:
        return self.layout(name) / "blobs"

    def link(self, name: str, digest: str) -> Path:
        algorithm, digits = digests.parse(digest)
        return self.links(name) / algorithm / digits
