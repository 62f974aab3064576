"""One containerd of our own for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containerds import containerd


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with containerd("ours") as running:
        yield running
