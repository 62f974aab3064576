from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from barque.errors import BarqueError, Conflict, InvalidArgument, NotFound
from barque.shim import messages, process
from barque.shim.process import Process, Turn, is_first_of_namespace, read_pid
from barque.shim.runtime import kill_error, last_error


def make() -> Process:
    io = {"stdin": "", "stdout": "", "stderr": "", "terminal": False}
    return Process("c", "", io, cast(Any, None))


def test_every_move_of_the_table_and_no_other() -> None:
    for status, name in process.NAMES.items():
        for event in (process.START, process.PAUSE, process.RESUME, process.EXIT):
            target = make()
            target.status = status
            if (status, event) in process.NEXT:
                target.advance(event)
                assert target.status == process.NEXT[status, event]
            else:
                with pytest.raises(Conflict, match=f"cannot {event} a {name} process"):
                    target.advance(event)


def test_exit_statuses() -> None:
    for status, expected in ((0, 0), (7 << 8, 7), (9, 137), (255 << 8, 255), (0x80 | 11, 139)):
        target = make()
        target.note_exit(status)
        assert target.exit_status == expected
        assert target.exit_values()["exited_at"]["seconds"] > 0


def test_signals() -> None:
    target = make()
    with pytest.raises(Conflict, match="process not created"):
        target.signal(9)
    target.pid = 1 << 30
    for number in (0, 65, 1 << 32):
        with pytest.raises(InvalidArgument):
            target.signal(number)
    target.note_exit(0)
    with pytest.raises(NotFound, match="process already finished"):
        target.signal(9)


def test_turns_are_taken_in_order() -> None:
    turn = Turn()
    first, second, third = turn.take(), turn.take(), turn.take()
    assert (first.done, second.done, third.done) == (True, False, False)
    turn.give()
    assert (second.done, third.done) == (True, False)
    turn.give()
    turn.give()
    assert third.done
    assert turn.take().done


def test_pid_files(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pytest.raises(NotFound):
        read_pid(str(path))
    path.write_text("123\n")
    assert read_pid(str(path)) == 123
    for text in ("", "x", "-1", "0", "99999999999"):
        path.write_text(text)
        with pytest.raises(InvalidArgument):
            read_pid(str(path))


def test_this_process_is_not_the_first_of_its_namespace() -> None:
    import os

    assert not is_first_of_namespace(os.getpid())
    assert not is_first_of_namespace(1 << 30)


def test_the_runtimes_last_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_error(str(log)) == ""
    log.write_text(
        '{"level":"error","msg":"first"}\n{"level":"error","msg":"last "}\n'
        '{"level":"warning","msg":"not this"}\nnot json\n[1]\n'
    )
    assert last_error(str(log)) == "last"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("OCI runtime kill failed: container not running", NotFound, "process already finished"),
        ("OCI runtime kill failed: no such process", NotFound, "process already finished"),
        ("OCI runtime kill failed: container does not exist", NotFound, "no such container"),
        ("OCI runtime kill failed: other", BarqueError, "other"),
    ],
)
def test_kill_errors(text: str, kind: type[BarqueError], words: str) -> None:
    error = kill_error(BarqueError(text))
    assert type(error) is kind
    assert words in str(error)


def test_status_numbers_are_containerds() -> None:
    assert [messages.CREATED, messages.RUNNING, messages.STOPPED, messages.PAUSED] == [1, 2, 3, 4]
