"""Lines of ps, of the processes asked for."""

import pytest

from barque import errors
from barque.daemon.containers.host_ps import parse


def test_the_last_column_takes_the_rest() -> None:
    text = "USER  PID COMMAND\nroot    7 sh -c  a b\nroot   77 other\n"
    assert parse(text, {7}) == (["USER", "PID", "COMMAND"], [["root", "7", "sh -c  a b"]])


def test_lines_without_an_id_are_left_out() -> None:
    assert parse("USER PID\nroot\n\nroot 7\n", {7}).rows == [["root", "7"]]


@pytest.mark.parametrize("text", ["", "USER COMMAND\nroot sh\n"])
def test_no_column_of_ids(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="PID"):
        parse(text, {7})
