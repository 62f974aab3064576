"""Each test here runs on our containerd and on the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containerds import containerd


@pytest.fixture(scope="module", params=["ours", pytest.param("real", marks=pytest.mark.peer)])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as address:
        yield address
