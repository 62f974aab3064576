from __future__ import annotations

import os
from typing import Any

import pytest

from barque import errors
from barque.cli import progress

PULL: list[dict[str, Any]] = [
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Pulling fs layer", "id": "aaa", "progressDetail": {}},
    {"status": "Downloading", "id": "aaa", "progressDetail": {"current": 5, "total": 10}},
    {"status": "Pull complete", "id": "aaa", "progressDetail": {}},
    {"status": "Digest: sha256:1"},
]


def test_a_pipe_gets_steps_and_no_bars(capfd: pytest.CaptureFixture[str]) -> None:
    progress.show(PULL, 1)
    assert capfd.readouterr().out == (
        "latest: Pulling from library/x\naaa: Pulling fs layer\naaa: Pull complete\n"
        "Digest: sha256:1\n"
    )


def test_a_terminal_gets_lines_redrawn_in_place() -> None:
    near, far = os.openpty()
    try:
        progress.show(PULL[:3], far)
        drawn = ""
        while drawn.count("\x1b[1B") < 2:
            drawn += os.read(near, 4096).decode()
    finally:
        os.close(near)
        os.close(far)
    assert drawn.count("\n") == 2
    assert drawn.count("\x1b[1A\x1b[2K\r") == 2
    assert "aaa: Downloading [=========================>" in drawn
    assert "       5B/10B" in drawn


def test_nowhere_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    progress.show(PULL, -1)
    assert capfd.readouterr() == ("", "")


def test_a_failure_among_them_is_raised() -> None:
    document = {"error": "short", "errorDetail": {"message": "in full"}}
    with pytest.raises(errors.BarqueError, match=r"^in full$"):
        progress.show([document], -1)


@pytest.mark.parametrize(
    ("detail", "columns", "text"),
    [
        ({}, 200, ""),
        ({"current": 1500}, 200, "   1.5kB"),
        ({"current": 5, "total": 10}, 80, "      5B/10B"),
        ({"current": 20, "total": 10}, 80, "     20B"),
        ({"current": 1, "total": 4, "units": "files"}, 80, "1/4 files"),
        ({"current": 10, "total": 10}, 200, "[" + "=" * 50 + ">]      10B/10B"),
    ],
)
def test_bars(detail: dict[str, Any], columns: int, text: str) -> None:
    assert progress.bar(detail, columns) == text
