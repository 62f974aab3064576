"""What makes one file tree from another, as the tar of a layer. image-spec, layer.md, "Changesets".

An overlay's upper directory has it all: what is there was added or changed, a whiteout (a character
device 0/0) is a deletion, an opaque directory hides all below it. Two plain directories are
compared entry by entry. Nothing is mounted; every step is by descriptor and follows no link.
An overlay with mapped ids (`uidmap=`) has the machine's ids in its upper directory, a layer has the
container's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress

from barque.containerd.diff.shifted import mapped_ids, own_ids, with_own_root
from barque.containerd.proto.types_pb2 import Mount
from barque.errors import ResourceExhausted, Unsupported
from barque.oci import tar
from barque.oci.id_maps import IdMaps
from barque.oci.tar_pack import (
    FLUSH_BYTES,
    MAX_DEPTH,
    OPEN_DIRECTORY,
    OPEN_FILE,
    OTHER_KINDS,
    SMALL_BYTES,
    Content,
)
from barque.oci.tar_writer import END_OF_ARCHIVE, header, header_of, padding

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque")
UNREADABLE_XATTRS = ("overlay.redirect", "overlay.metacopy")  # content or name is elsewhere
KEPT_XATTRS = ("security.capability",)


def directories(mounts: Sequence[Mount]) -> tuple[str, tuple[str, ...]]:
    """The upper directory ("" for none) and the ones below it, top first, of a snapshot's mounts.

    No mounts are an empty tree. Raises Unsupported for what is neither overlay nor bind.
    """
    if not mounts:
        return "", ()
    if len(mounts) > 1:
        raise Unsupported(f"comparing {len(mounts)} mounts is not supported")
    mount = mounts[0]
    if mount.type == "overlay":
        options = dict(option.partition("=")[::2] for option in mount.options)
        lowers = tuple(filter(None, options.get("lowerdir", "").split(":")))
        return options.get("upperdir", ""), lowers
    if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
        return "", (mount.source,)
    raise Unsupported(f"comparing a mount of type {mount.type} is not supported")


def changes(
    left: Sequence[Mount],
    right: Sequence[Mount],
    places: Collection[bytes] = (),
    latest_s: int | None = None,
) -> Iterator[bytes]:
    """The tar, to its last block. Raises Unsupported where the mounts cannot be compared.

    `places`: names that a runtime makes to mount on; they are left out while they are empty.
    `latest_s`: what is younger has this time.
    """
    _, before = directories(left)
    upper, below = directories(right)
    with ExitStack() as opened:

        def directory(path: str) -> int:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return fd

        if upper and below == before:
            ids = mapped_ids(right[0])
            found = _Changes(overlay=True, ids=ids, places=places, lowers=below, latest_s=latest_s)
            yield from found.archive(directory(upper), None)
        elif not upper and len(below) == 1 and not before:
            yield from _Changes(overlay=False, latest_s=latest_s).archive(directory(below[0]), None)
        elif not upper and len(below) == len(before) == 1:
            old = directory(before[0])
            found = _Changes(overlay=False, places=places, lowers=before, latest_s=latest_s)
            yield from found.archive(directory(below[0]), old)
        else:
            raise Unsupported("these snapshots do not lie on each other: they cannot be compared")


class _Changes:
    """Gathers headers and small files, so that few pieces are given out."""

    def __init__(
        self,
        *,
        overlay: bool,
        ids: IdMaps | None = None,
        places: Collection[bytes] = (),
        lowers: Sequence[str] = (),
        latest_s: int | None = None,
    ) -> None:
        self._latest_s = latest_s
        self._overlay = overlay
        self._ids = ids
        self._places = frozenset(places)
        self._holding = frozenset(os.path.dirname(place) for place in self._places)
        self._lowers = [os.fsencode(lower) for lower in lowers]
        self._buffer = bytearray()
        self._linked: dict[tuple[int, int], bytes] = {}

    def archive(self, new: int, old: int | None) -> Iterator[bytes]:
        yield from self._below(new, old, b"", 0)
        yield bytes(self._buffer) + END_OF_ARCHIVE

    def _below(self, new: int, old: int | None, base: bytes, depth: int) -> Iterator[bytes]:
        if depth > MAX_DEPTH:
            raise ResourceExhausted(f"deeper than {MAX_DEPTH} directories: {base[:100]!r}")
        names = {os.fsencode(name) for name in os.listdir(new)}
        for name in sorted(names):
            try:
                yield from self._entry(new, old, name, base + name, depth)
            except FileNotFoundError:
                continue  # gone since it was listed
            if len(self._buffer) >= FLUSH_BYTES:
                yield self._taken()
        if old is not None:
            for name in sorted({os.fsencode(name) for name in os.listdir(old)} - names):
                self._whiteout(base + WHITEOUT + name)

    def _entry(
        self, new: int, old: int | None, name: bytes, inside: bytes, depth: int
    ) -> Iterator[bytes]:
        facts = os.lstat(name, dir_fd=new)
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if self._overlay and kind == stat.S_IFCHR and facts.st_rdev == 0:
            self._whiteout(inside[: len(inside) - len(name)] + WHITEOUT + name)
            return
        before = _facts(old, name)
        if inside in self._places and kind == stat.S_IFREG and not (facts.st_size or before):
            return
        if kind == stat.S_IFDIR:
            yield from self._directory(new, old, name, inside, before, depth)
        elif before is None or _differs(before, facts):
            yield from self._leaf(new, name, inside, facts)

    def _directory(
        self,
        new: int,
        old: int | None,
        name: bytes,
        inside: bytes,
        before: os.stat_result | None,
        depth: int,
    ) -> Iterator[bytes]:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=new)
        try:
            facts = os.fstat(fd)
            start = len(self._buffer)
            if before is None or _differs(before, facts):
                self._buffer += self._header(
                    inside + b"/", tar.DIRECTORY, facts, xattrs=_xattrs(fd)
                )
            own = bytes(self._buffer[start:])
            if self._overlay and _opaque(fd):
                self._whiteout(inside + b"/" + OPAQUE)
            below = None
            if old is not None and before is not None and stat.S_ISDIR(before.st_mode):
                below = os.open(name, OPEN_DIRECTORY, dir_fd=old)
            try:
                yield from self._below(fd, below, inside + b"/", depth + 1)
            finally:
                if below is not None:
                    os.close(below)
            if self._buffer[start:] == own and self._is_place(inside, facts):
                del self._buffer[start:]
        finally:
            os.close(fd)

    def _is_place(self, inside: bytes, facts: os.stat_result) -> bool:
        """Whether only a runtime put this directory, in which nothing is, into the layer: to mount
        on it, or on something in it."""
        if inside not in self._places | self._holding or b"/" in inside:
            return False
        for lower in self._lowers:
            with suppress(FileNotFoundError, NotADirectoryError):
                before = os.lstat(os.path.join(lower, inside))
                owner = facts.st_uid, facts.st_gid
                if self._ids is not None:
                    owner = own_ids(self._ids, facts, inside)
                return (before.st_mode, before.st_uid, before.st_gid) == (facts.st_mode, *owner)
        return True

    def _leaf(
        self, directory: int, name: bytes, inside: bytes, facts: os.stat_result
    ) -> Iterator[bytes]:
        kind = stat.S_IFMT(facts.st_mode)
        if facts.st_nlink > 1:
            first = self._linked.setdefault((facts.st_dev, facts.st_ino), inside)
            if first != inside:
                self._buffer += self._header(inside, tar.LINK, facts, link=first)
                return
        if kind == stat.S_IFREG:
            yield from self._file(directory, name, inside)
        elif kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=directory)
            self._buffer += self._header(inside, tar.SYMLINK, facts, link=target)
        else:
            self._buffer += self._header(inside, OTHER_KINDS[kind], facts, device=facts.st_rdev)

    def _file(self, directory: int, name: bytes, inside: bytes) -> Iterator[bytes]:
        fd = os.open(name, OPEN_FILE, dir_fd=directory)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return  # replaced since we looked
            size = facts.st_size
            self._buffer += self._header(inside, tar.REGULAR, facts, size=size, xattrs=_xattrs(fd))
            chunks = Content(fd, size).chunks() if size else iter(())
            if size > SMALL_BYTES:
                yield self._taken()
                yield from chunks
            else:
                for chunk in chunks:
                    self._buffer += chunk
            self._buffer += padding(size)
        finally:
            os.close(fd)

    def _header(
        self,
        inside: bytes,
        kind: int,
        facts: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        device: int = 0,
        xattrs: dict[bytes, bytes] | None = None,
    ) -> bytes:
        owner = None
        if self._ids is not None:
            owner = own_ids(self._ids, facts, inside)
            xattrs = with_own_root(self._ids, xattrs)
        return header_of(
            inside,
            kind,
            facts,
            size=size,
            link=link,
            device=device,
            xattrs=xattrs,
            owner=owner,
            latest_s=self._latest_s,
        )

    def _whiteout(self, inside: bytes) -> None:
        self._buffer += header(inside, tar.REGULAR, mode=0, uid=0, gid=0, size=0, mtime_s=0)

    def _taken(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data


def _facts(directory: int | None, name: bytes) -> os.stat_result | None:
    if directory is None:
        return None
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _differs(before: os.stat_result, now: os.stat_result) -> bool:
    """By what a copy keeps: a file of the same size and time is the same file."""
    same = (
        before.st_mode == now.st_mode
        and (before.st_uid, before.st_gid) == (now.st_uid, now.st_gid)
        and before.st_mtime_ns == now.st_mtime_ns
    )
    if stat.S_ISDIR(now.st_mode):
        return not same
    return not same or before.st_size != now.st_size or before.st_rdev != now.st_rdev


def _opaque(fd: int) -> bool:
    for name in OPAQUE_XATTRS:
        try:
            if os.getxattr(fd, name) in {b"y", b"x"}:
                return True
        except OSError:
            continue
    return False


def _xattrs(fd: int) -> dict[bytes, bytes] | None:
    """Those that belong to the file; not the overlay's own. Raises Unsupported."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return None
    found = {}
    for name in names:
        if name.endswith(UNREADABLE_XATTRS):
            raise Unsupported(f"the snapshot has files that are elsewhere ({name})")
        own = name.startswith("user.") and not name.startswith("user.overlay.")
        if own or name in KEPT_XATTRS:
            try:
                found[os.fsencode(name)] = os.getxattr(fd, name)
            except OSError:
                continue
    return found or None
