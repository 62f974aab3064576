"""Digests and chain ids."""

import hashlib

import pytest

from barque.errors import InvalidArgument
from barque.oci import digest


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_known_algorithms(name: str) -> None:
    text = f"{name}:{hashlib.new(name, b'x').hexdigest()}"
    assert digest.parse(text) == tuple(text.split(":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:../" + "a" * 61,
        "md5:" + "a" * 32,
        "SHA256:" + "a" * 64,
        " sha256:" + "a" * 64,
        "sha512:" + "a" * 64,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        digest.parse(text)
    assert not digest.is_valid(text)


def test_sha256_of_nothing() -> None:
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest.sha256(b"") == f"sha256:{known}"


def test_chain_id_is_that_of_the_specification() -> None:
    a, b = digest.sha256(b"a"), digest.sha256(b"b")
    assert digest.chain_id([a]) == a
    assert digest.chain_id([a, b]) == digest.sha256(f"{a} {b}".encode())
    assert digest.chain_ids([a, b, a])[-1] == digest.chain_id([a, b, a])
    with pytest.raises(InvalidArgument):
        digest.chain_id([])
