"""What options of the daemon mean to containers that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque import errors
from barque.daemon.config import Config
from barque.daemon.defaults import container_defaults
from barque.daemon.paths import Paths

PATHS = Paths(Path("/data"), Path("/run"))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), 0),
        (("overlay2.size=10G",), 10 << 30),
        (("size=1m",), 1 << 20),
        (("btrfs.size=1", "btrfs.size=2"), 2),
    ],
)
def test_how_much_containers_may_write(options: tuple[str, ...], size: int) -> None:
    found = container_defaults(Config(storage_opts=options), PATHS)
    assert found.storage_size_bytes == size


@pytest.mark.parametrize(
    "option", ["size", "dm.basesize=1G", "overlay2.override_kernel_check=1", "overlay2.size=x"]
)
def test_other_options_of_storage_are_refused(option: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        container_defaults(Config(storage_opts=(option,)), PATHS)
