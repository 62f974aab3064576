"""Registries for the tests of a module: our own, or that, Debian's and engines' in turns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import PLACES, Asker, Registry


@pytest.fixture(scope="module", params=list(PLACES))
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    with PLACES[request.param]() as running:
        yield running


@pytest.fixture
def asker(registry: Registry) -> Asker:
    return Asker(registry.address)


@pytest.fixture(scope="module")
def own() -> Iterator[OurRegistry]:
    with our_registry() as running:
        yield running
