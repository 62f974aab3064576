from __future__ import annotations

from pathlib import Path

import pytest

from barque.daemon.events import RING_EVENTS, Events

MORE = 10


def publish(events: Events, *numbers: int) -> None:
    for number in numbers:
        events.publish("container", "start", str(number), {})


def actors(events: Events) -> list[int]:
    return [int(event["Actor"]["ID"]) for event in events.since(0)]


def test_the_ring_is_there_for_a_later_daemon(tmp_path: Path) -> None:
    events = Events(tmp_path / "events")
    publish(events, *range(RING_EVENTS + MORE))
    events.close()
    events = Events(tmp_path / "events")
    assert actors(events) == list(range(MORE, RING_EVENTS + MORE))
    publish(events, RING_EVENTS + MORE)
    events.close()
    assert actors(Events(tmp_path / "events"))[-1] == RING_EVENTS + MORE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events", "events.1"]


@pytest.mark.parametrize("obstacle", ["events.1", "events~"])
def test_a_ring_that_cannot_be_turned_grows_and_is_turned_later(
    tmp_path: Path, obstacle: str
) -> None:
    """A directory is in the way of a file: no event of later daemons is lost to that."""
    (tmp_path / obstacle / "x").mkdir(parents=True)
    events = Events(tmp_path / "events")
    publish(events, *range(RING_EVENTS + MORE))
    assert actors(Events(tmp_path / "events")) == list(range(MORE, RING_EVENTS + MORE))
    (tmp_path / obstacle / "x").rmdir()
    (tmp_path / obstacle).rmdir()
    publish(events, *range(RING_EVENTS + MORE, 2 * RING_EVENTS + MORE))
    events.close()
    found = actors(Events(tmp_path / "events"))
    assert found == list(range(RING_EVENTS + MORE, 2 * RING_EVENTS + MORE))
    assert (tmp_path / "events").read_bytes().count(b"\n") == MORE
