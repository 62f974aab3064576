"""For every test: programs it starts inherit nothing odd, and the process stays as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import signals

TOO_SLOW = HealthCheck.too_slow  # how busy the machine is says nothing of the code


def pytest_configure() -> None:
    """Whoever started the tests may block or ignore signals, and runc and crun hand that on."""
    signals.reset()
    common = settings(deadline=None, suppress_health_check=[TOO_SLOW])
    settings.register_profile("suite", common, derandomize=True)  # one verdict
    settings.register_profile("search", common, max_examples=2000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True)
def leaves_the_signals_as_they_were() -> Iterator[None]:
    before = signals.inherited()
    yield
    assert signals.inherited() == before


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are often made anew in every run; each worker must give a test the same name."""
    return argname if isinstance(val, bytes) else None
