"""What an archive says of its images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from barque import errors
from barque.daemon.images.archive import layout
from barque.daemon.images.archive.contents import key_of


def test_a_docker_archive() -> None:
    entry = {"Config": "c.json", "RepoTags": ["busybox:1"], "Layers": ["a/layer.tar"]}
    (image,) = layout.parse_docker(json.dumps([entry]).encode())
    assert (image.config, image.layers) == ("c.json", ("a/layer.tar",))
    assert [tag.full for tag in image.tags] == ["docker.io/library/busybox:1"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [1],
        [{}],
        [{"Config": 1}],
        [{"Config": "c", "Layers": "x"}],
        [{"Config": "c", "Layers": [1]}],
        [{"Config": "c", "RepoTags": ["../../etc:1"]}],
        [{"Config": "c", "RepoTags": ["busybox"]}],
        [{"Config": "c", "RepoTags": ["busybox@sha256:" + "0" * 64]}],
        [{"Config": "c"}] * (layout.MAX_IMAGES + 1),
    ],
)
def test_what_is_malformed_is_refused(value: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        layout.parse_docker(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({layout.CONTAINERD_NAME: "docker.io/library/a:1"}, "docker.io/library/a:1"),
        ({layout.REF_NAME: "localhost/a:1"}, "localhost/a:1"),
        ({layout.REF_NAME: "latest"}, None),
        ({layout.REF_NAME: "../../x:1"}, None),
        ({}, None),
    ],
)
def test_names_of_an_oci_layout(annotations: dict[str, str], expected: str | None) -> None:
    found = layout.oci_name(annotations)
    assert (found.full if found else None) == expected


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("./a//b", "a/b"),
        ("/a/b/", "a/b"),
        ("../../etc/passwd", "etc/passwd"),
        ("a/../../b", "b"),
        (".", ""),
    ],
)
def test_names_of_members_are_keys_and_lead_nowhere(name: str, key: str) -> None:
    assert key_of(name) == key
