"""Disks for tests: a file system of its own in a file, mounted through a loop device."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

DISK_BYTES = 512 << 20  # sparse; the least that btrfs and xfs take without fuss

BUSY_LIMIT_S = 30.0


def btrfs_disk(place: Path, size: int = DISK_BYTES) -> AbstractContextManager[Path]:
    """An empty btrfs mounted at `place`, which is made; gone afterwards."""
    return disk(place, "btrfs", size)


@contextmanager
def disk(place: Path, kind: str, size: int = DISK_BYTES) -> Iterator[Path]:
    """An empty file system, btrfs or xfs, mounted at `place`, which is made; gone afterwards."""
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size)
    place.mkdir()
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
    command = ["mount", "-o", "loop", "-t", kind, str(image), str(place)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield place
    finally:
        unmount(place)


def unmount(place: Path) -> None:
    """Who was told to end may take a moment to let go of its files."""
    deadline = time.monotonic() + BUSY_LIMIT_S
    while subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, f"{place} stays busy"
        time.sleep(0.05)


def in_memory(place: Path, options: str = "mode=711") -> None:
    """An empty file system in memory, mounted at `place`, which is made where it is not there."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    subprocess.run(command, check=True)


@contextmanager
def run_in_memory(name: str) -> Iterator[None]:
    """`/run/NAME` is in memory, as all of /run is on most machines, and empty."""
    place = Path("/run", name)
    in_memory(place)
    try:
        yield
    finally:
        unmount(place)


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A file system of `size` bytes, in memory."""
    place = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        subprocess.run(command, check=True)
        try:
            yield place
        finally:
            unmount(place)
    finally:
        place.rmdir()
