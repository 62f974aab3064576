"""The daemon on the storage driver devicemapper: what every driver does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.interop.engine.test_storage_drivers import (
    stack_on,
    test_a_commit_is_a_layer_of_what_changed,
    test_a_container_keeps_what_it_wrote,
    test_a_restart_of_the_daemon_finds_all,
    test_copying_into_a_container,
    test_info_and_inspect_tell_the_driver,
)
from tests.support.barque import Stack

__all__ = [
    "test_a_commit_is_a_layer_of_what_changed",
    "test_a_container_keeps_what_it_wrote",
    "test_a_restart_of_the_daemon_finds_all",
    "test_copying_into_a_container",
    "test_info_and_inspect_tell_the_driver",
]
pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    for name in ("dm_thin_pool", "loop"):
        subprocess.run(["modprobe", name], check=True)
    with stack_on("devicemapper") as made:
        yield made
    left = subprocess.run(["dmsetup", "ls"], capture_output=True, text=True, check=True)
    assert "barque" not in left.stdout
