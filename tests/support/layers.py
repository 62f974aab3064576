"""Layers for tests: archives from a few words, and trees to compare."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, **fields: Any) -> Member:
    return entry(name, kind=tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> Member:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


def layer(members: Iterable[Member]) -> bytes:
    """An uncompressed archive of `members`, in their order, unchecked."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that can be seen of a tree, below and with its root."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        known = path.lstat()
        name = str(path.relative_to(root))
        content: object = None
        if stat.S_ISREG(known.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(known.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(known.st_mode) or stat.S_ISBLK(known.st_mode):
            content = known.st_rdev
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        same = inodes.setdefault(known.st_ino, name)
        found[name] = (
            oct(known.st_mode),
            known.st_uid,
            known.st_gid,
            int(known.st_mtime),
            content,
            xattrs,
            same,
        )
    return found
