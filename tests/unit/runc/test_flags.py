"""The command line as runc reads it."""

import pytest

from barque.errors import InvalidArgument
from barque.runc.flags import LIST, SWITCH, VALUE, Flag, parse

FLAGS = (
    Flag("bundle,b", VALUE, ""),
    Flag("detach,d", SWITCH, ""),
    Flag("env,e", LIST, ""),
    Flag("count", VALUE, ""),
)


@pytest.mark.parametrize(
    "line",
    [
        "--bundle B -d id x --bundle y",
        "-b B --detach id x --bundle y",
        "-bundle=B -detach=true id x --bundle y",
    ],
)
def test_forms_of_flags(line: str) -> None:
    given = parse(line.split(), FLAGS)
    assert given.get("bundle") == "B"
    assert given.on("detach")
    assert given.words == ["id", "x", "--bundle", "y"]


def test_lists_ends_and_defaults() -> None:
    given = parse(["-e", "A=1", "--env=B=2", "--", "-x"], FLAGS)
    assert given.all("env") == ["A=1", "B=2"]
    assert given.words == ["-x"]
    assert given.get("bundle", "default") == "default"
    assert not parse(["--detach=false"], FLAGS).on("detach")
    assert parse(["-"], FLAGS).words == ["-"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--foo"], "flag provided but not defined: -foo"),
        (["--bundle"], "flag needs an argument: -bundle"),
        (["--detach=x"], 'invalid boolean value "x" for -detach'),
    ],
)
def test_what_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        parse(arguments, FLAGS)


@pytest.mark.parametrize("text", ["", "x", "1.5", "0x1", "--1", "\u0661", "1" * 30, "11", "-1"])
def test_numbers_are_whole_and_in_range(text: str) -> None:
    given = parse([f"--count={text}"], FLAGS)
    with pytest.raises(InvalidArgument):
        given.number("count", 0, 10)


def test_a_number() -> None:
    assert parse(["--count", "7"], FLAGS).number("count", 0, 10) == 7
    assert parse(["--count", "-7"], FLAGS).number("count", -10, 10) == -7
    assert parse([], FLAGS).number("count", 0, 10, 3) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("id -d --bundle B", ["id"]),
        ("-d id x --bundle B", ["id", "x"]),
        ("id --bundle B -d -- --bundle y", ["id", "--bundle", "y"]),
        ("-d --bundle B id -9 - --foo", ["id", "-9", "-", "--foo"]),
    ],
)
def test_flags_after_words(line: str, words: list[str]) -> None:
    given = parse(line.split(), FLAGS, anywhere=True)
    assert given.on("detach")
    assert (given.get("bundle"), given.words) == ("B", words)
