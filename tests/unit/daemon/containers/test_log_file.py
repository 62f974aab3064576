from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque import errors
from barque.daemon.containers.log_file import LineReader, seek_tail
from barque.daemon.containers.log_run import open_files
from barque.daemon.containers.logs import Growing, Query, Renderer, parse_tail, parse_time


def line(text: str, stream: str = "stdout", time: str = "2026-01-02T03:04:05.5Z") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n"


def tail(path: Path, count: int) -> list[bytes]:
    files = open_files(str(path))
    first = seek_tail(files, count)
    found = b"".join(rows for file in files[first:] for rows in LineReader(file).remaining())
    for file in files:
        file.close()
    return found.splitlines()


def write(path: Path, parts: list[int]) -> list[bytes]:
    """Numbered lines over rotated files, oldest first; all lines."""
    rows, number = [], 0
    for index, size in enumerate(parts):
        mine = [f"line {number + offset}".encode() for offset in range(size)]
        number += size
        rows += mine
        age = len(parts) - 1 - index
        name = path if age == 0 else Path(f"{path}.{age}")
        name.write_bytes(b"".join(row + b"\n" for row in mine))
    return rows


@settings(max_examples=60)
@given(
    st.lists(st.integers(min_value=0, max_value=30), min_size=1, max_size=4),
    st.integers(min_value=0, max_value=80),
)
def test_the_last_lines_over_all_files(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int], count: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.log"
    rows = write(path, parts)
    assert tail(path, count) == (rows[-count:] if count else [])


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    rows = [bytes([65 + number]) * 100_000 for number in range(5)]
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    assert tail(path, 2) == rows[-2:]


def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert open_files(str(tmp_path / "none")) == []
    assert seek_tail([], 5) == 0


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"one\ntw")
    with path.open("rb", buffering=0) as file:
        reader = LineReader(file)
        assert reader.read() == b"one\n"
        assert reader.read() == b""
        with path.open("ab") as more:
            more.write(b"o\n")
        assert reader.read() == b"two\n"


def test_following_over_several_rotations_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"a\n")
    growing = Growing(str(path), None)
    assert list(growing.new_lines()) == [b"a\n"]
    with path.open("ab") as file:
        file.write(b"b\n")
    for text in (b"c\n", b"d\n"):
        for number in (1, 0):
            older = Path(f"{path}.{number}") if number else path
            if older.exists():
                older.rename(f"{path}.{number + 1}")
        path.write_bytes(text)
    assert b"".join(growing.new_lines()) == b"b\nc\nd\n"
    growing.close()


def test_rendering() -> None:
    rows = b"".join(
        [
            line("out\n"),
            line("put\n"),
            line("err\n", "stderr"),
            b"damaged\n",
            line("late\n", time="2027-01-01T00:00:00Z"),
        ]
    )
    framed = Renderer(Query(), terminal=False).render(rows)
    assert framed == (
        b"\x01\0\0\0\0\0\0\x04out\n\x01\0\0\0\0\0\0\x04put\n"
        b"\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x05late\n"
    )
    joined = Renderer(Query(joined=True), terminal=False).render(rows)
    assert joined == (
        b"\x01\0\0\0\0\0\0\x08out\nput\n\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x05late\n"
    )
    assert Renderer(Query(stderr=False), terminal=True).render(rows) == b"out\nput\nlate\n"
    stamped = Renderer(Query(stdout=False, timestamps=True), terminal=True).render(rows)
    assert stamped == b"2026-01-02T03:04:05.5Z err\n"


def test_since_and_until() -> None:
    rows = line("a\n") + line("b\n", time="2026-01-02T03:04:06Z")
    since = parse_time("2026-01-02T03:04:05.6Z")
    assert Renderer(Query(since_ns=since), terminal=True).render(rows) == b"b\n"
    until = Renderer(Query(until_ns=since), terminal=True)
    assert until.render(rows) == b"a\n"
    assert until.finished


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("5", 5_000_000_000),
        ("5.000000001", 5_000_000_001),
        ("5.5", 5_500_000_000),
        ("-5", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["x", "1.x", "1e9", "2026-13-01T00:00:00Z", "9" * 40])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid time"):
        parse_time(text)


def test_tails() -> None:
    assert [parse_tail(text) for text in ("", "all", "x", "-1", "0", "7")] == [-1, -1, -1, -1, 0, 7]
