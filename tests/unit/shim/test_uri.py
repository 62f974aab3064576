from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.errors import InvalidArgument, Unsupported
from barque.shim import uri

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def test_kinds() -> None:
    assert uri.parse("").kind == uri.NULL
    fifo = uri.parse("/run/a b%20")
    assert (fifo.kind, fifo.path) == (uri.FIFO, "/run/a b%20")
    file = uri.parse("file:///var/a%20b")
    assert (file.kind, file.path) == (uri.FILE, "/var/a b")
    program = uri.parse("binary:///bin/log?id=a+b&path=%2Fx")
    assert (program.path, program.options) == ("/bin/log", {"id": "a b", "path": "/x"})


@given(TEXT, st.dictionaries(TEXT.filter(bool), TEXT, max_size=4))
def test_what_clients_encode_comes_back(path: str, options: dict[str, str]) -> None:
    for encoded in (urlencode(options), urlencode(options, quote_via=quote)):
        address = uri.parse(f"barque:///{quote(path)}?{encoded}")
        assert address.path == f"/{path}"
        assert address.options == options


@pytest.mark.parametrize(
    "text", ["x", "./x", "/a\0b", "barque://x", "barque:///a%", "barque:///%zz", "file:///%00"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(InvalidArgument):
        uri.parse(text)


def test_unknown_scheme() -> None:
    with pytest.raises(Unsupported, match="'ftp'"):
        uri.parse("ftp:///x")


def test_options() -> None:
    options = uri.BarqueOptions(
        {
            "log": "json-file",
            "path": "/l",
            "max-size": "10",
            "max-file": "3",
            "labels": '{"a": "b"}',
            "stdin": "1",
            "stdin-once": "0",
        }
    )
    assert (options.log, options.log_path, options.max_size, options.max_files) == (
        "json-file",
        "/l",
        10,
        3,
    )
    assert options.attributes == {"a": "b"}
    assert options.stdin
    assert not options.stdin_once
    plain = uri.BarqueOptions({})
    assert (plain.log, plain.max_size, plain.max_files, plain.stdin) == ("none", 0, 1, False)


@pytest.mark.parametrize(
    "options",
    [
        {"log": "syslog"},
        {"log": "json-file"},
        {"log": "json-file", "path": "relative"},
        {"max-size": "1k"},
        {"max-size": "-1"},
        {"max-size": "\u0661"},
        {"max-size": "9" * 30},
        {"stdin": "yes"},
        {"labels": "{"},
        {"labels": "[]"},
        {"labels": '{"a": 1}'},
        {"other": "1"},
    ],
)
def test_bad_options(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        uri.BarqueOptions(options)


def test_the_local_log_has_no_labels() -> None:
    options = uri.BarqueOptions({"log": "local", "path": "/x", "compress": "1"})
    assert (options.log, options.packed) == ("local", True)
    with pytest.raises(Unsupported, match="labels"):
        uri.BarqueOptions({"log": "local", "path": "/x", "labels": '{"a":"b"}'})
