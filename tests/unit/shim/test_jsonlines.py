from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.shim.jsonlines import LINE_BYTES_MAX, Lines, stamp

NOW = 1_700_000_000_120_000_000
TAIL = '","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}\n'


def feed_all(chunks: list[bytes]) -> bytes:
    lines = Lines(1, "")
    return b"".join([lines.feed(chunk, NOW) for chunk in chunks]) + lines.end(NOW)


def expected_text(data: bytes) -> str:
    """What Go's decoder makes of bytes: U+FFFD for each one that is no part of a character."""
    return "".join(
        "\ufffd" if "\udc80" <= c <= "\udcff" else c
        for c in data.decode("utf-8", "surrogateescape")
    )


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NOW, "2023-11-14T22:13:20.12Z"),
        (NOW + 1, "2023-11-14T22:13:20.120000001Z"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20Z"),
        (1_709_164_800_000_000_010, "2024-02-29T00:00:00.00000001Z"),
    ],
)
def test_stamp(nanoseconds: int, text: str) -> None:
    assert stamp(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (b"plain", "plain"),
        (b'tab\tq"b\\', 'tab\\u0009q\\"b\\\\'),
        (b"\\n is no newline", "\\\\n is no newline"),
        (b"<a&b>", "\\u003ca\\u0026b\\u003e"),
        (b"end\r", "end\\r"),
        (b"\x00\x1b[0m\x7f", "\\u0000\\u001b[0m\x7f"),
        ("\u00e9\u2603\U0001f600".encode(), "\u00e9\u2603\U0001f600"),
        ("\u2028\u2029".encode(), "\\u2028\\u2029"),
        (b"\xff\xe2\x82", "\\ufffd\\ufffd\\ufffd"),
        (b"", ""),
    ],
)
def test_a_line_as_docker_writes_it(text: bytes, logged: str) -> None:
    assert feed_all([text + b"\n"]).decode() == '{"log":"' + logged + "\\n" + TAIL


def test_attributes_come_before_the_time() -> None:
    line = Lines(2, '{"a":"b"}').feed(b"x\n", NOW).decode()
    assert line == (
        '{"log":"x\\n","stream":"stderr","attrs":{"a":"b"},"time":"2023-11-14T22:13:20.12Z"}\n'
    )


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"abc", ["abc"]),
        (b"a\nb", ["a\n", "b"]),
        (b"x" * LINE_BYTES_MAX, ["x" * LINE_BYTES_MAX]),
        (b"x" * LINE_BYTES_MAX + b"\n", ["x" * LINE_BYTES_MAX, "\n"]),
        (b"x" * (LINE_BYTES_MAX - 1) + b"\n", ["x" * (LINE_BYTES_MAX - 1) + "\n"]),
        (b"x" * (LINE_BYTES_MAX + 5) + b"\ny\n", ["x" * LINE_BYTES_MAX, "x" * 5 + "\n", "y\n"]),
        (b"a\n" + b"x" * (2 * LINE_BYTES_MAX + 1), ["a\n", *["x" * LINE_BYTES_MAX] * 2, "x"]),
    ],
)
@pytest.mark.parametrize("cut", [7, 1000, LINE_BYTES_MAX, 1 << 20])
def test_long_and_unfinished_lines(data: bytes, texts: list[str], cut: int) -> None:
    chunks = [data[at : at + cut] for at in range(0, len(data), cut)]
    logged = [json.loads(line)["log"] for line in feed_all(chunks).splitlines()]
    assert logged == texts


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"\n", b"x" * 9000, "é\n".encode()])),
        max_size=12,
    )
)
def test_nothing_is_lost_whatever_the_bytes(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    entries = [json.loads(line) for line in feed_all(chunks).decode().split("\n")[:-1]]
    assert all(list(entry) == ["log", "stream", "time"] for entry in entries)
    if max(map(len, data.split(b"\n"))) < LINE_BYTES_MAX:  # a cut may split a character
        assert "".join(entry["log"] for entry in entries) == expected_text(data)
