"""The tables in docs/ that name tests: each of these is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("registry.md", "security.md")


def every_test() -> set[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.add(path.name)
        found.update(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_what_a_table_names_is_there(page: str) -> None:
    path = ROOT / "docs" / page
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", path.read_text()))
    assert named
    assert named - every_test() == set()
