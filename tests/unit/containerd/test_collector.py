"""What is held stays, what is let go of goes, in the right order and in its own namespace."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.collector import Collector, is_past
from barque.containerd.metadata import Metadata
from barque.containerd.references import (
    CONTENT,
    SNAPSHOTS,
    Node,
    References,
    edges_of_labels,
)

OVERLAY = SNAPSHOTS + "overlayfs"


class Shelf:
    """A store that remembers in which order things were discarded."""

    def __init__(self, references: References) -> None:
        self.references = references
        self.gone: list[Node] = []

    def discard(self, node: Node) -> None:
        self.gone.append(node)
        self.references.drop(node)


class World:
    def __init__(self, path: Path) -> None:
        self.metadata = Metadata(path)
        self.references = References(self.metadata)
        self.shelf = Shelf(self.references)
        stores = {CONTENT: self.shelf, SNAPSHOTS: self.shelf}
        self.collector = Collector(self.metadata, self.references, stores, lambda: 1e9)

    def collect(self, older_than_s: float = 0.0) -> list[str]:
        asyncio.run(self.collector.run(older_than_s))
        gone = [node.key for node in self.shelf.gone]
        self.shelf.gone.clear()
        return gone


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "meta.db")
    yield made
    made.metadata.close()


def image(name: str, namespace: str = "n") -> Node:
    return Node(namespace, "image", name)


def blob(name: str, namespace: str = "n") -> Node:
    return Node(namespace, CONTENT, name)


def test_an_image_takes_what_only_it_held_along(world: World) -> None:
    references = world.references
    references.set(image("a"), {}, [(CONTENT, "manifest")])
    references.set(
        blob("manifest"),
        {
            "containerd.io/gc.ref.content.config": "config",
            "containerd.io/gc.ref.content.l.0": "layer",
        },
    )
    references.set(blob("config"), {"containerd.io/gc.ref.snapshot.overlayfs": "top"})
    references.set(Node("n", OVERLAY, "top"), {}, [(OVERLAY, "base")])
    references.set(image("b"), {}, [(CONTENT, "layer")])
    assert world.collect() == []
    references.drop(image("a"))
    gone = world.collect()
    assert set(gone) == {"manifest", "config", "top", "base"}
    assert gone.index("manifest") < gone.index("config") < gone.index("top") < gone.index("base")
    references.drop(image("b"))
    assert world.collect() == ["layer"]


def test_a_lease_holds(world: World) -> None:
    references = world.references
    references.add(Node("n", "lease", "l"), CONTENT, "x")
    references.set(image("a"), {}, [(CONTENT, "x")])
    references.drop(image("a"))
    assert world.collect() == []
    references.drop(Node("n", "lease", "l"))
    assert world.collect() == ["x"]


def test_a_root_label_holds_itself(world: World) -> None:
    references = world.references
    references.set(blob("x"), {"containerd.io/gc.root": "2026"})
    references.set(image("a"), {}, [(CONTENT, "x")])
    references.drop(image("a"))
    assert world.collect() == []
    references.set(blob("x"), {})
    assert world.collect() == ["x"]


def test_another_namespace_does_not_hold(world: World) -> None:
    references = world.references
    references.set(image("a", "other"), {}, [(CONTENT, "x")])
    references.set(image("a"), {}, [(CONTENT, "x")])
    references.drop(image("a"))
    assert world.collect() == ["x"]


def test_an_image_that_moves_on_lets_go(world: World) -> None:
    world.references.set(image("a"), {}, [(CONTENT, "old")])
    world.references.set(image("a"), {}, [(CONTENT, "new")])
    assert world.collect() == ["old"]


def test_a_sweep_finds_what_nothing_ever_held(world: World) -> None:
    for number in range(150):
        row = ("n", f"sha256:{number:064x}", 1, "{}", 0, 0)
        world.metadata.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)", *row)
    world.references.set(image("a"), {}, [(CONTENT, f"sha256:{7:064x}")])
    for key, parent in (("base", ""), ("top", "base"), ("kept", "")):
        row2 = ("overlayfs", "n", key, 3, parent, "", "{}", 0, 0, 0, 0)
        world.metadata.execute(
            "INSERT INTO snapshots (snapshotter, namespace, key, kind, parent, chain, labels, size,"
            " inodes, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *row2,
        )
        below = [(OVERLAY, parent)] if parent else []
        world.references.set(Node("n", OVERLAY, key), {}, below)
    world.references.set(Node("n", "container", "c"), {}, [(OVERLAY, "kept")])
    asyncio.run(world.collector.sweep())
    gone = [node.key for node in world.shelf.gone]
    assert len([key for key in gone if key.startswith("sha256")]) == 149
    assert f"sha256:{7:064x}" not in gone
    assert [key for key in gone if not key.startswith("sha256")] == ["top", "base"]


def test_what_was_just_let_go_of_can_wait(world: World) -> None:
    world.references.set(image("a"), {}, [(CONTENT, "x")])
    world.references.drop(image("a"))
    assert world.collect(older_than_s=60) == []
    world.references.set(image("b"), {}, [(CONTENT, "x")])
    assert world.collect() == []
    world.references.drop(image("b"))
    assert world.collect() == ["x"]


def test_a_sweep_leaves_what_is_new(world: World) -> None:
    now = int(1e9 * 1e9)
    for digest, updated in (("old", now - 61 * 10**9), ("new", now)):
        row = ("n", digest, 1, "{}", updated, updated)
        world.metadata.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)", *row)
    asyncio.run(world.collector.sweep())
    assert [node.key for node in world.shelf.gone] == ["old"]


def test_expired_leases_end(world: World) -> None:
    for id, expire in (("old", "2001-01-01T00:00:00Z"), ("new", "2031-01-01T00:00:00Z")):
        labels = f'{{"containerd.io/gc.expire": "{expire}"}}'
        world.metadata.execute("INSERT INTO leases VALUES ('n', ?, ?, 0)", id, labels)
        world.references.add(Node("n", "lease", id), CONTENT, id)
    assert world.collect() == ["old"]
    assert world.metadata.execute("SELECT id FROM leases").fetchall() == [("new",)]


def test_times() -> None:
    assert is_past("2001-01-01T00:00:00Z", 1e9)
    assert not is_past("2001-09-10T00:00:00+00:00", 1e9)
    assert not is_past("soon", 1e9)


def test_edges_of_labels() -> None:
    labels = {
        "containerd.io/gc.ref.content": "a",
        "containerd.io/gc.ref.content.l.0": "b",
        "containerd.io/gc.ref.content/x": "c",
        "containerd.io/gc.ref.contention": "no",
        "containerd.io/gc.ref.snapshot.overlayfs": "s",
        "containerd.io/gc.ref.snapshot.native/1": "t",
        "containerd.io/gc.ref.snapshot.btrfs.2": "u",
        "other": "no",
    }
    assert set(edges_of_labels(labels)) == {
        (CONTENT, "a"),
        (CONTENT, "b"),
        (CONTENT, "c"),
        ("snapshots/overlayfs", "s"),
        ("snapshots/native", "t"),
        ("snapshots/btrfs", "u"),
    }
