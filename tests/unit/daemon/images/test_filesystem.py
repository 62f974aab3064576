"""What layers make of a file system."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence

import pytest

from barque import errors
from barque.daemon.images import filesystem
from barque.daemon.images.filesystem import Changes, FileSystem, differences
from tests.support.images import link, tar

Entry = tarfile.TarInfo | tuple[str, bytes]


def laid(system: FileSystem, *entries: Entry) -> Changes:
    reader = system.layer()
    data = tar(*entries)
    for start in range(0, len(data), 700):  # pieces end anywhere
        reader.feed(data[start : start + 700])
    return reader.end()


def built(*layers: Sequence[Entry]) -> FileSystem:
    system = FileSystem()
    for entries in layers:
        laid(system, *entries)
    return system


def paths(system: FileSystem) -> list[bytes]:
    return [path for path, _ in system.walk()]


def directory(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode = tarfile.DIRTYPE, mode
    return header


def test_a_layer_adds_changes_removes_and_wastes() -> None:
    system = FileSystem()
    first = laid(system, directory("etc"), ("etc/a", b"12345"), ("etc/b", b"123"), ("c", b"1"))
    assert (first.added, first.changed, first.removed) == (4, 0, 0)
    assert (first.size, first.wasted) == (9, 0)
    second = laid(system, directory("etc"), ("etc/a", b"other"), ("etc/.wh.b", b""), ("d/e", b"22"))
    assert second.entries == [
        ("changed", b"/etc/a", 5),
        ("removed", b"/etc/b", 3),
        ("added", b"/d/e", 2),
    ]
    assert (second.size, second.wasted) == (7, 8)
    assert paths(system) == [b"/c", b"/d", b"/d/e", b"/etc", b"/etc/a"]


def test_an_opaque_directory_hides_what_is_below_and_not_what_comes_with_it() -> None:
    for entries in (
        [("a/.wh..wh..opq", b""), ("a/new", b"1"), ("a/b/two", b"2")],
        [("a/new", b"1"), ("a/b/two", b"2"), ("a/.wh..wh..opq", b"")],
    ):
        system = built([("a/old", b"old"), ("a/b/one", b"one")])
        changes = laid(system, *entries)
        assert paths(system) == [b"/a", b"/a/b", b"/a/b/two", b"/a/new"]
        assert changes.wasted == 6


def test_a_file_in_place_of_a_directory_takes_all_below_along() -> None:
    system = built([("a/one", b"1"), ("a/b/two", b"22")])
    assert laid(system, ("a", b"file")).wasted == 3
    assert paths(system) == [b"/a"]


def test_a_directory_that_is_only_told_again_is_no_change() -> None:
    system = built([directory("etc"), ("etc/a", b"1")])
    assert laid(system, directory("etc")).entries == []
    assert laid(system, directory("etc", 0o700)).entries == [("changed", b"/etc", 0)]
    assert paths(system) == [b"/etc", b"/etc/a"]


def test_hard_links_share_what_they_lead_to() -> None:
    one = built([("a", b"123"), link("b", "a", tarfile.LNKTYPE)])
    other = built([("a", b"123"), link("b", "a", tarfile.LNKTYPE)])
    assert list(differences(one, other)) == []
    with pytest.raises(errors.InvalidArgument, match="link to"):
        built([link("b", "missing", tarfile.LNKTYPE)])


def test_whiteouts_for_nothing_and_of_other_drivers_do_nothing() -> None:
    system = built([("a", b"1"), (".wh.none", b""), (".wh..wh.plnk", b""), ("x/.wh.y", b"")])
    assert paths(system) == [b"/a"]


def test_differences_by_content_mode_and_kind() -> None:
    one = built([("same", b"1"), ("content", b"1"), ("gone", b"1"), ("kind", b"1"), directory("m")])
    other = built(
        [("same", b"1"), ("content", b"2"), ("new", b"22")],
        [link("kind", "same"), directory("m", 0o700)],
    )
    assert list(differences(one, other)) == [
        ("changed", b"/content", 1, 1),
        ("removed", b"/gone", 1, 0),
        ("changed", b"/kind", 1, 0),
        ("changed", b"/m", 0, 0),
        ("added", b"/new", 0, 2),
    ]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/".join("d" * 600)])
def test_names_that_lead_out_or_too_deep(name: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="entry named"):
        built([(name, b"")])


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "MAX_ENTRIES", 3)
    with pytest.raises(errors.ResourceExhausted, match="more than 3 entries"):
        built([("a", b""), ("b", b"")], [("c", b""), ("d", b"")])
