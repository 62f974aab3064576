from __future__ import annotations

import pytest

from barque.cli.commands.exec import OPTIONS as EXEC
from barque.cli.container_options import CREATE_OPTIONS, RUN_OPTIONS
from barque.cli.flags import Options, UsageError, parse


def run(*words: str) -> tuple[Options, list[str]]:
    return parse(RUN_OPTIONS, list(words), interspersed=False)


def test_clusters_of_short_flags() -> None:
    options, rest = run("-itd", "-p80:80", "-e", "A=b", "-eC=d", "-m=1g", "busybox", "ls", "-l")
    assert options.flag("interactive")
    assert options.flag("tty")
    assert options.flag("detach")
    assert options.all("publish") == ["80:80"]
    assert options.all("env") == ["A=b", "C=d"]
    assert options.number("memory") == 1 << 30
    assert rest == ["busybox", "ls", "-l"]


def test_long_flags_with_and_without_equals() -> None:
    options, rest = run("--name", "x", "--rm=false", "--label=a=b", "--init", "--", "-busybox")
    assert options.text("name") == "x"
    assert "rm" in options
    assert not options.flag("rm")
    assert options.all("label") == ["a=b"]
    assert options.flag("init")
    assert "tty" not in options
    assert rest == ["-busybox"]


def test_flags_may_follow_arguments_where_interspersed() -> None:
    options, rest = parse((("force", "f", "bool", "x"),), ["a", "-f", "b", "-", "--", "-c"])
    assert options.flag("force")
    assert rest == ["a", "b", "-", "-c"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=bar"], "unknown flag: --foo"),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z"),
        (["-itZ"], "unknown shorthand flag: 'Z' in -itZ"),
        (["--name"], "flag needs an argument: --name"),
        (["-itm"], "flag needs an argument: 'm' in -itm"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--rm=maybe"],
            'invalid argument "maybe" for "--rm" flag: '
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            ["-m", "3zz"],
            'invalid argument "3zz" for "-m, --memory" flag: invalid suffix: \'zz\'',
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_usual_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as failure:
        run(*words)
    assert str(failure.value) == message


def test_h_is_help_where_it_is_nothing_else() -> None:
    options, _ = parse(EXEC, ["-h"], interspersed=False)
    assert options.flag("help")
    options, _ = run("-h", "name", "busybox")
    assert options.text("hostname") == "name"
    assert not options.flag("help")


def test_lists_of_words_are_split_where_their_kind_says_so() -> None:
    options, _ = parse(
        (("x", "", "stringSlice", ""), ("y", "", "list", "")), ["--x=a,b", "--y=a,b"]
    )
    assert options.all("x") == ["a", "b"]
    assert options.all("y") == ["a,b"]


def test_the_tables_have_no_name_twice() -> None:
    for rows in (CREATE_OPTIONS, RUN_OPTIONS, EXEC):
        names = [row[0] for row in rows]
        shorts = [row[1] for row in rows if row[1]]
        assert len(names) == len(set(names))
        assert len(shorts) == len(set(shorts))
