"""One stack for all tests of a module; each test removes what it made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.barque import Stack, stack


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack() as made:
        yield made
        left = made.docker("ps", "-aq").stdout.decode().split()
        assert not left, f"containers left by the tests: {left}"
