"""Tests that run in the virtual machine: see tests/vm/test_lane.py. The runtime's own fixtures."""

import os

import pytest

from tests.integration.runc.conftest import case, place, runtime

__all__ = ["case", "place", "runtime"]

# A command of ours takes its time on an emulated processor: the warm runtime is the same code.
ALL = os.environ.get("BARQUE_VM") == "all"
RUNTIMES = ("ours", "warm", "runc", "crun") if ALL else ("warm", "runc")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("runtimes")
        metafunc.parametrize("runtime", marker.args if marker else RUNTIMES, indirect=True)
