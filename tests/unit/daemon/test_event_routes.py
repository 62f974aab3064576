"""Times and filters of the event stream."""

import pytest

from barque import errors
from barque.daemon.events import Events
from barque.daemon.routes.events import matches, parse_time


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("", None),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("1700000000.000000001", 1_700_000_000_000_000_001),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("10m", 400_000_000_000),
        ("1h30m", -4_400_000_000_000),
    ],
)
def test_docker_times(text: str, ns: int | None) -> None:
    assert parse_time(text, now_s=1000.0) == ns


@pytest.mark.parametrize("text", ["yesterday", "10x", "1.2.3", "9" * 40, "m"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_time(text)


def test_filters_of_events() -> None:
    events = Events(clock_ns=lambda: 5)
    events.publish(
        "container", "health_status: healthy", "a" * 64, {"name": "web", "image": "i", "k": "v"}
    )
    (event,) = events.since(0)
    assert event["timeNano"] == 5
    for key, value in [
        ("type", "container"), ("event", "health_status"), ("container", "web"),
        ("container", "a" * 12), ("image", "i"), ("label", "k"), ("label", "k=v"),
    ]:  # fmt: skip
        assert matches(event, {key: ["other", value] if key != "label" else [value]}), key
    for key, value in [("type", "image"), ("event", "health"), ("container", "aaa"),
                       ("label", "k=w"), ("network", "web")]:  # fmt: skip
        assert not matches(event, {key: [value]}), key
    assert events.since(6) == []
