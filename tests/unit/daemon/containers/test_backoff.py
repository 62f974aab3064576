"""How long restarts wait: Docker's way, and with times of one's own."""

from __future__ import annotations

import pytest

from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import Config, HostConfig, RestartPolicy, parse
from barque.daemon.containers.record import Record
from barque.daemon.containers.state import State

S = 1_000_000_000


def restarting(**times: int) -> Container:
    policy = parse(RestartPolicy, {"Name": "always", **times})
    record = Record(
        id="c" * 64, name="c", created="", image="", chain_id="", path="", args=[],
        config=Config(), host=HostConfig(restart_policy=policy), endpoints={}, mounts=[],
    )  # fmt: skip
    return Container(record, State())


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ({}, [0.1, 0.2, 0.4]),
        ({"Delay": S}, [1, 2, 4, 8, 16, 32, 60, 60]),
        ({"Delay": 90 * S}, [90, 90]),
        ({"MaximumDelay": S // 5}, [0.1, 0.2, 0.2]),
        ({"Delay": S, "MaximumDelay": 3 * S}, [1, 2, 3, 3]),
        ({"Delay": S, "MaximumDelay": S}, [1, 1]),
    ],
)
def test_the_delay_doubles_up_to_a_bound(times: dict[str, int], waits: list[float]) -> None:
    container = restarting(**times)
    assert [container.grow_backoff() for _ in waits] == pytest.approx(waits)


@pytest.mark.parametrize(
    ("window_s", "short_s", "long_s"), [(0, 9.9, 10), (1, 0.9, 1), (60, 59, 60)]
)
def test_a_steady_run_takes_the_delay_back(window_s: int, short_s: float, long_s: float) -> None:
    container = restarting(Window=window_s * S)
    container.grow_backoff()
    container.has_run(short_s)
    assert container.grow_backoff() == pytest.approx(0.2)
    container.has_run(long_s)
    assert container.grow_backoff() == pytest.approx(0.1)


@pytest.mark.parametrize(("window_s", "left"), [(0, 7), (1, 0)])
def test_retries_begin_anew_where_a_window_is_set(window_s: int, left: int) -> None:
    container = restarting(Window=window_s * S)
    container.state.restart_count = container.state.restart_streak = 7
    container.has_run(1000)
    assert (container.state.restart_count, container.state.restart_streak) == (7, left)


def test_a_start_by_hand_begins_anew() -> None:
    container = restarting(Window=S)
    container.state.restart_count = container.state.restart_streak = 7
    container.grow_backoff()
    container.forget_restarts()
    assert (container.state.restart_count, container.state.restart_streak) == (0, 0)
    assert container.grow_backoff() == pytest.approx(0.1)
