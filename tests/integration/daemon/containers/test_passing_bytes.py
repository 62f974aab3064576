"""What passes through the daemon does so in memory that it has already."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from tests.support.barque import Stack

pytestmark = pytest.mark.root
MEGABYTES = 32


def faults(pid: int) -> int:
    """The pages that the kernel has made for a process. Source: proc_pid_stat(5), minflt."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_a_copied_file_takes_no_page_for_each_of_its_own(barque: Stack, tmp_path: Path) -> None:
    fill = f"dd if=/dev/zero of=/large bs=1M count={MEGABYTES}"
    barque.docker("run", "--name", "full", "--network", "none", "busybox", "sh", "-c", fill)
    assert barque.daemon is not None
    try:
        barque.docker("cp", "full:/large", str(tmp_path / "first"))
        before = faults(barque.daemon.pid)
        barque.docker("cp", "full:/large", str(tmp_path / "second"))
        taken = faults(barque.daemon.pid) - before
    finally:
        barque.docker("rm", "-f", "full")
    assert (tmp_path / "second").stat().st_size == MEGABYTES << 20
    assert taken < (MEGABYTES << 20) // mmap.PAGESIZE // 4
