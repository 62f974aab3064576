"""Documents of images: what is read from them, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.oci import image as oci
from barque.oci.image import Index, Manifest, Platform

DIGEST = "sha256:" + "a" * 64


def descriptor(**changes: Any) -> dict[str, Any]:
    return {"mediaType": oci.OCI_CONFIG, "digest": DIGEST, "size": 3, **changes}


def manifest(**changes: Any) -> bytes:
    value = {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()], **changes}
    return json.dumps(value).encode()


def test_a_manifest() -> None:
    raw = manifest(mediaType=oci.DOCKER_MANIFEST)
    found = oci.parse(raw)
    assert isinstance(found, Manifest)
    assert (found.raw, found.media_type) == (raw, oci.DOCKER_MANIFEST)
    assert found.config.digest == DIGEST
    assert [layer.size for layer in found.layers] == [3]


def test_an_index() -> None:
    entry = descriptor(platform={"os": "linux", "architecture": "arm", "variant": "v7"})
    found = oci.parse(json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    assert isinstance(found, Index)
    assert found.media_type == oci.OCI_INDEX
    assert str(found.manifests[0].platform) == "linux/arm/v7"


def test_a_descriptor_is_written_as_it_was_read() -> None:
    entry = descriptor(
        platform={"os": "linux", "architecture": "arm", "variant": "v7"}, annotations={"a": "b"}
    )
    found = oci.parse(json.dumps({"manifests": [entry]}).encode())
    assert isinstance(found, Index)
    assert found.manifests[0].document() == entry


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"layers": []' * 10_000,
        b"[" * 100_000,
        manifest(manifests=[]),  # CVE-2021-41190: both
        manifest(mediaType=oci.OCI_INDEX),
        manifest(mediaType="text/plain"),
        manifest(mediaType=7),
        manifest(config=None),
        manifest(config=descriptor(digest="sha256:../../etc/passwd")),
        manifest(config=descriptor(size=-1)),
        manifest(config=descriptor(size=1 << 63)),
        manifest(config=descriptor(size=True)),
        manifest(config=descriptor(size=1.5)),
        manifest(layers={}),
        manifest(layers=[descriptor()] * (oci.LAYERS_MAX + 1)),
        manifest(layers=[None]),
        b'{"schemaVersion": 1, "fsLayers": [], "layers": []}',
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(errors.InvalidArgument):
        oci.parse(raw)


def test_bytes_that_came_as_another_kind_are_refused() -> None:
    index = json.dumps({"manifests": []}).encode()
    with pytest.raises(errors.InvalidArgument):
        oci.parse(index, oci.OCI_MANIFEST)
    with pytest.raises(errors.InvalidArgument):
        oci.parse(manifest(), oci.DOCKER_INDEX)


def test_a_config() -> None:
    raw = json.dumps(
        {
            "architecture": "arm64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        }
    ).encode()
    found = oci.parse_config(raw)
    assert found.diff_ids == (DIGEST,)
    assert found.defaults == {"Cmd": ["sh"]}
    assert str(found.platform) == "linux/arm64"


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"rootfs": {"diff_ids": "x"}},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": [DIGEST] * (oci.LAYERS_MAX + 1)}},
        {"rootfs": []},
        {"config": []},
        {"os": 1},
    ],
)
def test_what_is_no_config_is_refused(value: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        oci.parse_config(json.dumps(value).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["layers", "config", "manifests", "mediaType", "digest", "size", "rootfs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_document_breaks_the_parsers(value: Any) -> None:
    raw = json.dumps(value).encode()
    for parse in (oci.parse, oci.parse_config):
        try:
            parse(raw)
        except errors.InvalidArgument:
            pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("LINUX/armhf", "linux/arm/v7"),
        ("windows", "windows"),
        ("s390x", "linux/s390x"),
    ],
)
def test_platforms(text: str, expected: str) -> None:
    assert str(oci.parse_platform(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "/", "a/b/c/d", "linux/", "linux/../x", "linux/a b", "foobar", "linux/é"]
)
def test_malformed_platforms_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        oci.parse_platform(text)


def test_matching() -> None:
    arm64 = Platform("linux", "arm64")
    assert oci.matches(arm64, Platform("linux", "arm64", "v8"))
    assert not oci.matches(arm64, Platform("linux", "amd64"))
    assert oci.matches(Platform("linux", "arm"), Platform("linux", "arm", "v6"))
    assert not oci.matches(Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6"))
