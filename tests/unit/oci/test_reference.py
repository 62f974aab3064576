"""The grammar of image references, against cases known from Docker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.errors import InvalidArgument
from barque.oci.reference import parse

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app:v1", "docker.io/user/app:v1", "user/app:v1"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("[fe80::1]/app", "[fe80::1]/app", "[fe80::1]/app"),
        ("Registry/app", "Registry/app", "Registry/app"),
        ("ghcr.io/o/app@" + SHA, "ghcr.io/o/app@" + SHA, "ghcr.io/o/app@" + SHA),
        ("a:t@" + SHA, "docker.io/library/a:t@" + SHA, "a:t@" + SHA),
        ("a--b__c.d_e", "docker.io/library/a--b__c.d_e", "a--b__c.d_e"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128, "a:" + "t" * 128),
        ("a:_T.x-Y", "docker.io/library/a:_T.x-Y", "a:_T.x-Y"),
    ],
)
def test_parse(text: str, full: str, familiar: str) -> None:
    reference = parse(text)
    assert reference.full == full
    assert reference.familiar == familiar
    assert parse(reference.full) == reference
    assert parse(reference.familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a:",
        ":a",
        "a@",
        "a@sha256:abc",
        "a@md5:" + "a" * 32,
        "..",
        "a/..",
        "a/../b",
        "./a",
        "a b",
        "a\n",
        "a\0b",
        "-a",
        "a-",
        "a_",
        "a___b",
        "a..b",
        "a._b",
        "a:t:t",
        "a:-t",
        "a:" + "t" * 129,
        "exa mple.com/a",
        "example.com:port/a",
        "-x.com/a",
        "x-.com/a",
        "[::1/a",
        "[::g]/a",
        "[]/a",
        "[::1]x/a",
        "a@" + SHA + "@" + SHA,
        "https://a/b",
        "a:t/b",
        "\u00e9",
        "a@" + SHA.upper(),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        parse(text)


def test_upper_case_path_says_so() -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse("Busybox")
    assert str(raised.value) == (
        "invalid reference format: repository name (library/Busybox) must be lowercase"
    )


def test_an_id_is_not_a_name() -> None:
    with pytest.raises(InvalidArgument, match="cannot specify 64-byte hexadecimal strings"):
        parse("ab" * 32)


def test_too_long_path() -> None:
    with pytest.raises(InvalidArgument, match="more than 255"):
        parse("a/" * 200 + "a")


def test_default_tag() -> None:
    assert parse("a").with_default_tag().full == "docker.io/library/a:latest"
    assert parse("a:x").with_default_tag().tag == "x"
    assert parse("a@" + SHA).with_default_tag().tag == ""


@given(st.text(max_size=80))
def test_what_is_parsed_is_stable_and_safe(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert parse(reference.full).full == reference.full
    assert ".." not in reference.path.split("/")
    assert not any(character.isspace() or character == "\0" for character in reference.full)
