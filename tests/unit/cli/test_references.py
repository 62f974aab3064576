from __future__ import annotations

import pytest

from barque import errors
from barque.cli.references import Reference, familiar

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("busybox", "docker.io/library/busybox", "busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("a/b", "docker.io/a/b", "a/b:latest"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox:latest"),
        ("localhost/x", "localhost/x", "localhost/x:latest"),
        ("r.io:5000/a/b/c:t", "r.io:5000/a/b/c:t", "r.io:5000/a/b/c:t"),
        (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}", f"x@{DIGEST}"),
        (f"x:t@{DIGEST}", f"docker.io/library/x:t@{DIGEST}", f"x:t@{DIGEST}"),
    ],
)
def test_what_is_left_out_is_filled_in(text: str, full: str, short: str) -> None:
    assert Reference(text).full == full
    assert familiar(text) == short


@pytest.mark.parametrize(
    "text", ["", "FOO", "a:b:c", "a//b", "-a", "a:", "a:.x", "a@b", "a b", "a/", "a:" + "x" * 129]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid reference format"):
        Reference(text)
