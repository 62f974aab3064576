from __future__ import annotations

import itertools

import pytest

from barque import errors
from barque.daemon.containers.state import NEXT, Move, State, Status


def test_every_move_is_in_the_table_or_refused() -> None:
    for status, move in itertools.product(Status, Move):
        state = State(status=status)
        if (status, move) in NEXT:
            state.move(move, "c")
            assert state.status is NEXT[status, move]
        else:
            with pytest.raises(errors.Conflict, match=f"cannot {move} container c: it is {status}"):
                state.move(move, "c")
            assert state.status is status


def test_every_status_can_be_reached_and_left() -> None:
    assert set(NEXT.values()) == set(Status)
    assert {status for status, _ in NEXT} == set(Status)


def test_running_is_what_has_processes() -> None:
    having = {status for status in Status if State(status=status).running}
    assert having == {Status.RUNNING, Status.PAUSED}
