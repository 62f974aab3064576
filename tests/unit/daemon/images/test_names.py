"""Names, patterns over them, and the catalog that finds images by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.images import names, patterns
from barque.daemon.images.catalog import Catalog
from barque.daemon.images.store import Record
from barque.oci.image import OCI_MANIFEST, Descriptor


def digest(character: str) -> str:
    return "sha256:" + character * 64


def record(name: str, target: str = "0", *, pulled: bool = False) -> Record:
    labels = {names.PULLED_LABEL: "true"} if pulled else {}
    return Record(name, Descriptor(OCI_MANIFEST, digest(target), 1), labels)


def test_what_an_image_is_called() -> None:
    found = names.describe(
        [
            ("docker.io/library/busybox:latest", digest("1"), True),
            ("r.example:5000/a/b:x", digest("2"), False),
            (f"docker.io/library/busybox@{digest('3')}", digest("3"), True),
            (names.dangling_name(digest("4")), digest("4"), True),
        ]
    )
    assert found.tags == ("busybox:latest", "r.example:5000/a/b:x")
    assert found.digests == (f"busybox@{digest('1')}", f"busybox@{digest('3')}")


def test_an_id_or_the_beginning_of_one() -> None:
    assert names.as_digits("abc") == "abc"
    assert names.as_digits(digest("a")) == "a" * 64
    assert [names.as_digits(text) for text in ("", "xyz", "ABC", "a" * 65, "sha256:")] == [""] * 5


def test_the_catalog_finds_by_every_key() -> None:
    catalog = Catalog()
    catalog.put(record("docker.io/library/a:1", "1"), digest("a"))
    catalog.put(record("docker.io/library/a:2", "2", pulled=True), digest("a"))
    catalog.put(record("docker.io/library/b:1", "3"), digest("b"))
    assert len(catalog) == 2
    assert catalog.ids_with_prefix("a") == [digest("a")]
    assert len(catalog.ids_with_prefix("")) == 2
    assert catalog.ids_with_prefix("c") == []
    assert catalog.with_digest("docker.io/library/a", digest("2")) is not None
    assert catalog.with_digest("docker.io/library/a", digest("1")) is None  # no registry knows it
    assert catalog.with_digest("docker.io/library/other", digest("2")) is None
    assert [r.name for r in catalog.tagged("docker.io/library/a")] == [
        "docker.io/library/a:1",
        "docker.io/library/a:2",
    ]


def test_a_name_that_moves_leaves_no_trace() -> None:
    catalog = Catalog()
    catalog.put(record("docker.io/library/a:1", "1"), digest("a"))
    catalog.put(record("docker.io/library/a:1", "2"), digest("b"))
    assert catalog.ids_with_prefix("a") == []
    assert catalog.id_of("docker.io/library/a:1") == digest("b")
    catalog.drop("docker.io/library/a:1")
    catalog.drop("docker.io/library/a:1")
    assert len(catalog) == 0
    assert catalog.ids_with_prefix("") == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from("0123"), st.sampled_from("xyz"), st.booleans()
        ),
        max_size=40,
    )
)
def test_the_catalog_agrees_with_a_plain_table(steps: list[tuple[str, str, str, bool]]) -> None:
    catalog, table = Catalog(), dict[str, str]()
    for name, image, target, is_drop in steps:
        full = f"docker.io/library/{name}:1"
        if is_drop:
            catalog.drop(full)
            table.pop(full, None)
        else:
            catalog.put(record(full, "1" if target == "x" else "2"), digest(image))
            table[full] = digest(image)
    assert len(catalog) == len(set(table.values()))
    assert {r.name: image for image, found in catalog.images() for r in found} == table
    for image in "0123":
        assert catalog.ids_with_prefix(image) == (
            [digest(image)] if digest(image) in table.values() else []
        )


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("busybox", "busybox:latest", True),
        ("busybox:*", "busybox:latest", True),
        ("busy*", "busybox:latest", True),
        ("*", "busybox:latest", True),
        ("*", "a/b:1", False),  # a star does not cross a slash
        ("*/*", "a/b:1", True),
        ("b?sybox", "busybox:latest", True),
        ("[a-c]usybox", "busybox:latest", True),
        ("[^a-c]usybox", "busybox:latest", False),
        ("busybox.", "busybox:latest", False),
        ("r.example:5000/a", "r.example:5000/a:1", True),
        ("localhost*", "localhost:5000/x:1", False),
    ],
)
def test_reference_patterns(pattern: str, name: str, expected: bool) -> None:
    assert patterns.matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\", "[z-a]"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        patterns.matches(pattern, "a:1")


@given(st.text(max_size=20))
def test_no_pattern_breaks_the_matcher(pattern: str) -> None:
    try:
        patterns.matches(pattern, "busybox:latest")
    except errors.InvalidArgument:
        pass
