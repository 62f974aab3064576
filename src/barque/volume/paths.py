"""Every path of the local volume driver.

<root>/                   the daemon's volumes directory
    <name>/               0701
        _data/            what containers see; 0755 until an image's content gives it another mode
        copying           there while an image's content is copied in
    .removed-<random>/    a volume under removal, or one that is filled before it gets its name;
                          names of volumes do not begin with a dot
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REMOVED_PREFIX = ".removed-"
DATA = "_data"


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path

    def volume(self, name: str) -> Path:
        return self.root / name

    def data(self, name: str) -> Path:
        return self.root / name / DATA

    def copying(self, name: str) -> Path:
        return self.root / name / "copying"

    def removed(self, word: str) -> Path:
        return self.root / f"{REMOVED_PREFIX}{word}"
