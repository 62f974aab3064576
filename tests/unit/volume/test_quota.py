"""Sizes of volumes as Docker writes them, and a file system that has no quotas."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from barque import errors
from barque.program import command
from barque.volume import options
from barque.volume.local import LocalVolumes
from barque.volume.quota import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("10k", 10 << 10),
        ("10m", 10 << 20),
        ("1.5G", 3 << 29),
        ("2gb", 2 << 30),
        ("2GiB", 2 << 30),
        ("1 t", 1 << 40),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("v", text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1x", "1e3", "9999p", "1.g", "1m\n", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid size"):
        parse_size("v", text)


def test_a_size_is_of_a_directory_of_ours_alone() -> None:
    assert options.parse("v", {"size": "10m"}) is None
    with pytest.raises(errors.InvalidArgument, match="a tmpfs has its own"):
        options.parse("v", {"size": "10m", "type": "tmpfs", "device": "tmpfs"})


def test_without_quotas_it_is_refused_and_leaves_nothing() -> None:
    """A tmpfs has no projects, on any kernel."""
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/dev/shm") as name:
        root = Path(name)
        volumes = LocalVolumes(root, command("barque-copyup"))
        with pytest.raises(errors.InvalidArgument, match="requested but no quota support"):
            volumes.create("vol", 10 << 20)
        with pytest.raises(errors.InvalidArgument, match="requested but no quota support"):
            volumes.stage(10 << 20)
        assert list(root.iterdir()) == []
