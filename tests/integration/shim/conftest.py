from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.shim import Shims, shims


@pytest.fixture(params=["", "runc", "crun"], ids=["ours", "runc", "crun"])
def it(request: pytest.FixtureRequest) -> Iterator[Shims]:
    """Shims with each runtime."""
    with shims(request.param) as it:
        yield it


@pytest.fixture
def ours() -> Iterator[Shims]:
    """Shims with our runtime: for what does not depend on it."""
    with shims() as it:
        yield it
