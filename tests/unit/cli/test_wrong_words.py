"""Every command with words that are none, and nobody to ask: one clear failure, no traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.cli import main

WORDS = ("", "nothing", "{{", "a:b:c:d", "-1", "../..", "a=b=c", "\n", os.fsdecode(b"\xff"))
EXITS = {0, 1, 64, 125, 126, 127}
OTHER_PROGRAMS = ("registry gc", "registry serve")  # they are executed in our place
COMMANDS = sorted(
    {module: path for path, module in main.COMMANDS.items() if path not in OTHER_PROGRAMS}.values()
)


def lines_of(path: str) -> Iterator[list[str]]:
    """Each flag with each word, and each word as all the arguments."""
    command = main.load(path)
    least, most = command.ARGUMENTS
    for word in WORDS:
        yield ["--", *[word] * max(least, 1 if most else 0)]
    for row in command.OPTIONS:
        if row[2] != "bool":
            for word in WORDS:
                yield [f"--{row[0]}={word}", *["nothing"] * least]
        yield [f"--{row[0]}"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory of its own for what is written, and our handler of Ctrl-C put back."""
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_fails_in_words(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    host = ["-H", "unix:///nonexistent/barque.sock"]
    for words in lines_of(path):
        code = main.main([*host, *path.split(), *words])
        told = capfd.readouterr()
        assert code in EXITS, words
        assert code == 0 or told.err, words
        assert "Traceback" not in told.err, words
