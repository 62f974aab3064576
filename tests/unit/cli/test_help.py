"""Every command loads, has its help page, and its table fits the parser."""

from __future__ import annotations

import pytest

from barque.cli import flags, help, main, values


@pytest.mark.parametrize("path", sorted(main.COMMANDS))
def test_a_command_has_its_page(path: str) -> None:
    command = main.load(path)
    page = help.page(path)
    assert page.startswith(f"Usage:  barque {path} {command.USAGE}\n\n{command.SUMMARY}\n")
    assert all(len(line) <= 100 for line in page.split("\n"))
    kinds = {"bool", "string", *flags.LISTS, *values.PARSERS}
    for row in command.OPTIONS:
        assert row[2] in kinds
        assert (f"--{row[0]} " in page) == (row[3] != flags.HIDDEN)
    for name in command.ALIASES:
        assert main.COMMANDS[name] == main.COMMANDS[path]


@pytest.mark.parametrize("path", ["", *main.GROUPS])
def test_groups_have_their_pages(path: str) -> None:
    assert "Commands:\n" in help.page(path)


def test_what_waits_is_not_there_twice() -> None:
    assert not set(main.COMMANDS) & main.NOT_YET


def test_lines_are_wrapped_between_words() -> None:
    assert help.wrapped("a few words", 80) == ["a few words"]
    lines = help.wrapped("word " * 20, 30)
    assert all(len(line) <= 30 for line in lines)
    assert " ".join(lines).split() == ["word"] * 20
