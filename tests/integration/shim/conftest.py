from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.shim import Shims, shims


@pytest.fixture(params=["", "runc", "crun"], ids=["ours", "runc", "crun"])
def it(request: pytest.FixtureRequest) -> Iterator[Shims]:
    """Shims with each runtime."""
    with shims(request.param) as it:
        yield it


@pytest.fixture(params=["", "0"], ids=["awake", "parked"])
def ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shims]:
    """Shims with our runtime, for what does not depend on it: with a worker that stays for the
    usual time, and with one that leaves whenever it has nothing to do."""
    monkeypatch.setenv("BARQUE_SHIM_QUIET_MS", request.param)
    with shims() as it:
        yield it
