"""`docker top` with the words of ps, beside Docker's daemon, which runs the host's ps."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docker_cli import fails, out
from tests.support.node import wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def sleeper(engine: Any) -> Iterator[str]:
    run = ("run", "-d", "--network", "none", "busybox", "sh", "-c", "sleep 999 & sleep 998; true")
    container = out(engine, *run)
    assert wait_until(lambda: len(out(engine, "top", container).splitlines()) == 4)
    yield container
    out(engine, "rm", "-f", container)


@pytest.mark.parametrize(
    "words",
    [
        ("aux",),
        ("-o", "pid,comm"),
        ("-axo", "user,pid,nice,args"),
        ("-eo", "pid,etimes,cmd"),
        ("faux",),
    ],
    ids=" ".join,
)
def test_words_of_ps(engine: Any, sleeper: str, words: tuple[str, ...]) -> None:
    titles, *rows = out(engine, "top", sleeper, *words).splitlines()
    assert "PID" in titles.split()
    assert len(rows) == 3
    assert sum("sleep" in row for row in rows) >= 2


def test_words_that_ps_refuses(engine: Any, sleeper: str) -> None:
    assert "nosuch" in fails(engine, "top", sleeper, "-o", "pid,nosuch")


def test_no_column_of_ids(engine: Any, sleeper: str) -> None:
    assert "PID" in fails(engine, "top", sleeper, "-eo", "nice,args")
