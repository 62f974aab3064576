"""What containers leave on a machine, told from what is theirs."""

from __future__ import annotations

import os
from pathlib import Path

from barque.daemon.doctor import YOUNG_S, empty_groups, mounts_of_containers
from barque.daemon.paths import Paths

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


def group(root: Path, name: str, processes: str = "", *, old: bool = True) -> Path:
    made = root / name
    (made / "below").mkdir(parents=True)
    (made / "cgroup.procs").write_text("")
    (made / "below/cgroup.procs").write_text(processes)
    if old:
        long_ago = made.stat().st_mtime - 2 * YOUNG_S
        os.utime(made, (long_ago, long_ago))
    return made


def test_groups_of_nobody_are_old_empty_and_named_as_containers_are(tmp_path: Path) -> None:
    left = group(tmp_path, f"memory/barque/{ONE}")
    also = group(tmp_path, f"barque/{ONE}")
    group(tmp_path, f"memory/barque/{TWO}", "42\n")
    group(tmp_path, f"memory/barque/{THREE}", old=False)
    group(tmp_path, "memory/barque/mine")
    group(tmp_path, f"memory/docker/{ONE}")
    assert empty_groups(tmp_path, "barque") == [also, left]
    assert empty_groups(tmp_path, "") == []


def test_mounts_of_containers_are_those_below_our_directories(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root", tmp_path / "run")
    run = paths.run
    points = [f"{run}/shm/{ONE}", f"{run}/subpaths/{TWO}/a\\040b", f"{run}/netns/x", "/mnt/x"]
    listing = tmp_path / "mountinfo"
    listing.write_text("".join(f"1 2 0:1 / {point} rw - tmpfs t rw\n" for point in points))
    assert mounts_of_containers(paths, listing) == [
        (f"{run}/subpaths/{TWO}/a b", TWO),
        (f"{run}/shm/{ONE}", ONE),
    ]
