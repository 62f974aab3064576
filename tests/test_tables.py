"""What the pages name is there: tests, modules, each other."""

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


def every_page() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_modules_that_pages_name_are_there() -> None:
    """`network/rules.py` from wherever the page counts: the package, the tree, a folder of it."""
    folders = ("src", "tests", "tools", "bench")
    files = [f"/{path}" for folder in folders for path in (ROOT / folder).rglob("*.py")]
    missing = {
        f"{page.relative_to(ROOT)} names {name}"
        for page in every_page()
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text())
        if not any(file.endswith(f"/{name}") for file in files)
    }
    assert not missing


def test_links_between_pages_lead_somewhere() -> None:
    missing = {
        f"{page.relative_to(ROOT)} links {target}"
        for page in every_page()
        for target in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text())
        if not (page.parent / target).exists()
    }
    assert not missing
