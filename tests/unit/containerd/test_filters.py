"""containerd's filter language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.containerd.filters import any_of, parse, parse_all, values_of
from barque.containerd.messages import lookup
from barque.errors import InvalidArgument

THING = lookup(
    {"name": "docker.io/library/a:1", "kind": "active", "empty": ""},
    {"plain": "x", "a.b/c": "two words", "empty": ""},
)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("", True),
        ("name", True),
        ("absent", False),
        ("empty", False),
        ("name==docker.io/library/a:1", True),
        ("name==docker.io/library/a", False),
        ('name=="docker.io/library/a:1"', True),
        ("name!=x", True),
        ("name!=docker.io/library/a:1", False),
        ("absent!=x", True),
        ("name~=library", True),
        ("name~=^library", False),
        ("name~=/library.a:[0-9]$/", True),
        ("name~=|/a:|", True),
        ("labels.plain", True),
        ("labels.plain==x", True),
        ('labels."plain"==x', True),
        ('labels."a.b/c"=="two words"', True),
        ('labels."a.b/c"', True),
        ("labels.nothing", False),
        ('labels."a.b/c"=="two",name', False),
        ("name,kind==active,labels.plain==x", True),
        ("name,kind==view", False),
        ('name=="a\\"b"', False),
        (" kind == active ", True),
    ],
)
def test_accepts(text: str, accepted: bool) -> None:
    assert any_of(parse_all([text]))(THING) is accepted


def test_any_of_several_and_none() -> None:
    assert any_of(parse_all(["kind==view", "kind==active"]))(THING)
    assert not any_of(parse_all(["kind==view", "kind==committed"]))(THING)
    assert any_of([])(THING)


@pytest.mark.parametrize(
    "text",
    [
        "==x",
        "name=",
        "name==",
        "name=x",
        "name==x y",
        "name==x,",
        ".name",
        "name.",
        'name=="x',
        "1a==x",
        "name~=(",
        "name==/x",
        "na me",
        '"',
        "a<b",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="parse error"):
        parse(text)


def test_values_that_a_point_query_answers() -> None:
    name = ("name",)
    assert values_of(parse_all(["name==a", "name==b,kind==x", "name==a"]), name) == ["a", "b"]
    assert values_of(parse_all(["name==a", "kind==x"]), name) is None
    assert values_of(parse_all(["name~=a"]), name) is None
    assert values_of((), name) is None


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        any_of([parse(text)])(THING)
    except InvalidArgument:
        pass


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters='\\"'), max_size=40))
def test_quoted_values_are_exact(value: str) -> None:
    matches = any_of(parse_all([f'x=="{value}"']))
    assert matches(lambda path: value)
    assert not matches(lambda path: value + "x")
