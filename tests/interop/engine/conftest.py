"""One stack of our own for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.support.barque import Stack, stack


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack() as made:
        yield made


@pytest.fixture
def own_barque() -> Iterator[Stack]:
    """A stack for one test alone: its processes may be killed."""
    with stack() as made:
        yield made
