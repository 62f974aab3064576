"""`make bench` finds what it names."""

import importlib

import pytest

from bench.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_figures(name: str) -> None:
    assert callable(importlib.import_module(f"bench.{name}").figures)
