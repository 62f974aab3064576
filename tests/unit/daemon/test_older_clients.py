"""What clients of older versions of the API mean."""

from __future__ import annotations

from typing import Any

import pytest

from barque.daemon.routes.older import settle_create, settle_update


@pytest.mark.parametrize(
    ("version", "cgroups", "host", "expected"),
    [
        ((1, 39), 1, {}, {"IpcMode": "shareable", "CgroupnsMode": "host"}),
        ((1, 40), 1, {}, {"CgroupnsMode": "host"}),
        ((1, 40), 2, {}, {}),
        ((1, 41), 1, {}, {}),
        ((1, 24), 2, {"ipcmode": ""}, {"ipcmode": "shareable"}),
        ((1, 24), 2, {"IPCMODE": "none"}, {"IPCMODE": "none"}),
    ],
)
def test_namespaces(
    version: tuple[int, int], cgroups: int, host: dict[str, str], expected: dict[str, str]
) -> None:
    body = {"hostConfig": host}
    settle_create(body, version, cgroups)
    assert body == {"hostConfig": expected}


@pytest.mark.parametrize("body", [{}, {"HostConfig": None}, {"HostConfig": 1}])
def test_a_request_without_settings_stays(body: dict[str, Any]) -> None:
    before = dict(body)
    settle_create(body, (1, 24), 1)
    assert body == before


def test_an_update_of_the_limit_of_processes() -> None:
    body = {"pidsLimit": 1, "Memory": 2}
    settle_update(body, (1, 40))
    assert body == {"pidsLimit": 1, "Memory": 2}
    settle_update(body, (1, 39))
    assert body == {"Memory": 2}
