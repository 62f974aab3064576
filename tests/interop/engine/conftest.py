"""One stack of our own for the tests of a module, or that and Debian's dockerd in turns."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import docker_peer


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack() as made:
        yield made


@pytest.fixture
def own_barque() -> Iterator[Stack]:
    """A stack for one test alone: its processes may be killed."""
    with stack() as made:
        yield made


@pytest.fixture(scope="module", params=["ours", "docker"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    with stack() if request.param == "ours" else docker_peer() as made:
        yield made
