"""The tar of what makes one tree from another."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from barque.containerd.diff.compare import changes
from barque.containerd.proto.types_pb2 import Mount


@pytest.mark.parametrize(("latest_s", "times"), [(None, [50, 200]), (100, [50, 100]), (0, [0, 0])])
def test_no_file_is_younger_than_the_source_date(
    tmp_path: Path, latest_s: int | None, times: list[int]
) -> None:
    for name, at_s in (("old", 50), ("young", 200)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (at_s, at_s))
    tree = Mount(type="bind", source=str(tmp_path), options=["rbind"])
    archive = b"".join(changes([], [tree], latest_s=latest_s))
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert [member.mtime for member in found] == times
