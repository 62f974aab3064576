"""What layers make of a file system, name by name; from archives, nothing unpacked. Pure.

    Layer of bytes ──> entries ──> laid on what is below: added, changed, removed, wasted

Source: image-spec, layer.md: `.wh.NAME` takes away NAME, `.wh..wh..opq` all that is below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from barque import errors
from barque.oci import tar

MAX_ENTRIES = 2_000_000  # of one image
MAX_DEPTH = 512
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."
KINDS = {
    tar.REGULAR: "file",
    tar.LINK: "file",
    tar.SYMLINK: "symlink",
    tar.CHARACTER: "character device",
    tar.BLOCK_DEVICE: "block device",
    tar.DIRECTORY: "directory",
    tar.FIFO: "fifo",
}
ADDED, CHANGED, REMOVED = "added", "changed", "removed"


class Node:
    """One name. `facts` is what makes two of them the same, None for a directory not told of;
    `layer` the last that spoke of it, or of something in it.
    """

    __slots__ = ("children", "facts", "kind", "layer", "size")

    def __init__(self, layer: int, kind: str = "directory", size: int = 0) -> None:
        self.layer, self.kind, self.size = layer, kind, size
        self.facts: tuple[Any, ...] | None = None
        self.children: dict[bytes, Node] = {}


@dataclass(slots=True)
class Changes:
    """What a layer does to what is below it. `wasted`: bytes below that it hides or replaces."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    size: int = 0
    wasted: int = 0
    entries: list[tuple[str, bytes, int]] = field(default_factory=list)  # (change, path, bytes)

    def note(self, change: str, path: bytes, size: int) -> None:
        self.entries.append((change, path, size))
        if change == ADDED:
            self.added += 1
        elif change == CHANGED:
            self.changed += 1
        else:
            self.removed += 1


class FileSystem:
    """The layers given so far, as one tree."""

    def __init__(self) -> None:
        self.root = Node(0)
        self._entries = self._layers = 0

    def layer(self) -> LayerReader:
        """The next one: the one before must have ended."""
        self._layers += 1
        return LayerReader(self, self._layers)

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every name with its path, parents first, in order."""
        pending = [(b"", self.root)]
        while pending:
            path, node = pending.pop()
            if path:
                yield path, node
            children = sorted(node.children.items(), reverse=True)
            pending += [(path + b"/" + name, child) for name, child in children]

    def counted(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise errors.ResourceExhausted(f"image has more than {MAX_ENTRIES} entries")


class LayerReader:
    """Feed it one uncompressed layer; `changes` is whole after `end`."""

    def __init__(self, below: FileSystem, number: int) -> None:
        self._below, self._number = below, number
        self._reader = tar.Reader()
        self.changes = Changes()
        self._node: Node | None = None
        self._entry: tar.Entry | None = None
        self._hash: Any = None
        self._path = b""
        self._before: Node | None = None  # in a layer below

    def feed(self, data: bytes) -> None:
        """Raises InvalidArgument for what is no archive, ResourceExhausted for too much of it."""
        self._reader.feed(data)
        self._take()

    def end(self) -> Changes:
        self._reader.end()
        self._take()
        self._finish()
        return self.changes

    def _take(self) -> None:
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, tar.Data):
                if self._hash is not None:
                    self._hash.update(event.payload)
            elif isinstance(event, tar.Entry):
                self._finish()
                self._begin(event)

    def _finish(self) -> None:
        """The file before is whole: now it is known what it is."""
        entry, node = self._entry, self._node
        if entry is None or node is None:
            return
        self._entry = None
        digest = self._hash.digest() if self._hash is not None else b""
        attributes = (entry.mode, entry.uid, entry.gid, *sorted(entry.xattrs.items()))
        node.facts = (node.kind, digest, entry.link, entry.major, entry.minor, *attributes)
        before = self._before
        if before is None:
            self.changes.note(ADDED, self._path, node.size)
        elif node.kind != "directory" or before.facts != node.facts:
            self.changes.note(CHANGED, self._path, node.size)

    def _begin(self, entry: tar.Entry) -> None:
        self._below.counted()
        parts = [part for part in entry.name.split(b"/") if part not in (b"", b".")]
        if b".." in parts or len(parts) > MAX_DEPTH:
            raise errors.InvalidArgument(f"layer has an entry named {entry.name[:100]!r}")
        if not parts:  # the root itself, which is always there
            return
        name = parts[-1]
        if name == OPAQUE:
            self._clear(parts[:-1])
        elif name.startswith(RESERVED):
            pass  # of another storage driver
        elif name.startswith(WHITEOUT):
            self._remove([*parts[:-1], name.removeprefix(WHITEOUT)])
        else:
            self._put(parts, entry)

    def _put(self, parts: list[bytes], entry: tar.Entry) -> None:
        parent = self._directory(parts[:-1])
        path, name = b"/" + b"/".join(parts), parts[-1]
        there = parent.children.get(name)
        before = there if there is not None and there.layer != self._number else None
        if entry.kind == tar.LINK:
            target = self._find(entry.link)
            if target is None or target.kind == "directory":
                raise errors.InvalidArgument(f"layer has a link to {entry.link[:100]!r}, not there")
            parent.children[name] = target
            self.changes.wasted += _size(before) if before is not None else 0
            self.changes.note(ADDED if before is None else CHANGED, path, 0)
            return
        node = Node(self._number, KINDS[entry.kind], entry.size)
        if there is not None and there.kind == node.kind == "directory":
            node.children = there.children
        elif before is not None:
            self.changes.wasted += _size(before)
        parent.children[name] = node
        self.changes.size += entry.size
        self._hash = hashlib.sha256(usedforsecurity=False) if entry.kind == tar.REGULAR else None
        self._entry, self._node, self._path, self._before = entry, node, path, before

    def _remove(self, parts: list[bytes]) -> None:
        """What this layer itself brought stays: a whiteout is for what is below."""
        parent = self._find(b"/".join(parts[:-1]))
        gone = parent.children.get(parts[-1]) if parent is not None else None
        if gone is not None and parent is not None and gone.layer != self._number:
            del parent.children[parts[-1]]
            size = _size(gone)
            self.changes.wasted += size
            self.changes.note(REMOVED, b"/" + b"/".join(parts), size)

    def _clear(self, parts: list[bytes]) -> None:
        """An opaque directory: only what this layer brings is in it."""
        directory = self._find(b"/".join(parts))
        pending = [(parts, directory)] if directory is not None else []
        while pending:
            where, node = pending.pop()
            for name, child in list(node.children.items()):
                self._below.counted()
                if child.layer == self._number:
                    pending.append(([*where, name], child))
                else:
                    self._remove([*where, name])

    def _find(self, path: bytes) -> Node | None:
        node = self._below.root
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            found = node.children.get(part)
            if found is None:
                return None
            node = found
        return node

    def _directory(self, parts: list[bytes]) -> Node:
        """Made where it is missing, as unpacking does."""
        node = self._below.root
        for part in parts:
            found = node.children.get(part)
            if found is None or found.kind != "directory":
                self._below.counted()
                found = node.children[part] = Node(self._number)
            found.layer = self._number
            node = found
        return node


def _size(node: Node) -> int:
    """Of everything below too."""
    total, pending = 0, [node]
    while pending:
        one = pending.pop()
        total += one.size
        pending += one.children.values()
    return total


def differences(one: FileSystem, other: FileSystem) -> Iterator[tuple[str, bytes, int, int]]:
    """What makes `other` from `one`: (change, path, bytes before, bytes after), in order."""
    left, right = dict(one.walk()), dict(other.walk())
    for path in sorted(left.keys() | right.keys()):
        before, after = left.get(path), right.get(path)
        if before is None and after is not None:
            yield ADDED, path, 0, after.size
        elif after is None and before is not None:
            yield REMOVED, path, before.size, 0
        elif before is not None and after is not None and before.facts != after.facts:
            yield CHANGED, path, before.size, after.size
