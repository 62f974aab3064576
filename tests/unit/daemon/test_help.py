"""`barqued --help`: every option of the daemon and of dockerd has its line."""

import pytest

from barque.daemon import help
from barque.daemon.main import main
from barque.daemon.options import FLAG_ONLY, NOT_YET, OPTIONS

TAKEN = {option.flag for option in (*OPTIONS, *FLAG_ONLY)}


def test_every_option_is_told() -> None:
    assert TAKEN <= help.ABOUT.keys() <= TAKEN | NOT_YET
    words = help.text().split()
    for flag in (*TAKEN, *NOT_YET, "help", "version"):
        assert f"--{flag}" in words


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{help.text()}\n"
    assert shown.err == ""
