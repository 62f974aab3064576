from __future__ import annotations

import pytest

from barque.daemon.containers.listing import command, human_duration, ports

SECOND = 1_000_000_000
DAY = 24 * 3600


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"), (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"),
        (5400, "2 hours"), (47 * 3600, "47 hours"), (2 * DAY, "2 days"), (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"), (59 * DAY, "8 weeks"), (60 * DAY, "2 months"),
        (729 * DAY, "24 months"), (730 * DAY, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert human_duration(int(seconds * SECOND)) == words


def test_commands() -> None:
    assert command("sh", []) == "sh"
    assert command("sh", ["-c", "a b"]) == "sh -c 'a b'"


def test_ports() -> None:
    bound = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None}
    assert ports({"Ports": bound}) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "udp"},
    ]
    assert ports({}) == []
