"""Tests that run in the virtual machine: see tests/vm/test_lane.py. The runtime's own fixtures."""

import pytest

from tests.integration.runc.conftest import case, place, runtime

__all__ = ["case", "place", "runtime"]

RUNTIMES = ("warm", "runc", "crun")  # a command of ours takes its time on an emulated processor


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("runtimes")
        metafunc.parametrize("runtime", marker.args if marker else RUNTIMES, indirect=True)
