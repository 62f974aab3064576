"""The run of a log's files while the shim rotates and packs them: nothing left out or twice."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque.daemon.containers import log_run
from barque.daemon.containers.log_file import LineReader
from barque.daemon.containers.logs import Growing
from barque.shim import compress
from barque.shim.logs import LogFile

WAIT_S = 30
LINE = b"%06d ...............................................................\n"


def warned(text: str) -> None:
    raise AssertionError(text)


class Writer:
    """A log of ours with 4 lines a file: each further line numbered."""

    def __init__(self, path: Path, files: int, *, packed: bool) -> None:
        self.log = LogFile(str(path), 4 * len(LINE % 0), files, warned, packed=packed)
        self.count = 0

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self.log.append(LINE % self.count)
            self.count += 1

    def settle(self) -> None:
        """Until what is being packed is packed."""
        if self.log._packer:
            compress.wait(self.log._packer)


def numbers(blocks: Iterator[bytes]) -> list[int]:
    return [int(line[:6]) for line in b"".join(blocks).splitlines()]


def all_of(path: Path) -> list[int]:
    files = log_run.open_files(str(path))
    found = numbers(block for file in files for block in LineReader(file).remaining())
    for file in files:
        file.close()
    return found


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "x.log", 20, packed=request.param)
    yield made
    made.settle()
    made.log.close()


def test_a_follower_many_rotations_behind_misses_nothing(writer: Writer, tmp_path: Path) -> None:
    growing = Growing(str(tmp_path / "x.log"), None)
    writer.write(2)
    seen = numbers(iter(growing.new_lines()))
    for lines in (21, 1, 0, 4, 9, 33):
        writer.write(lines)
        writer.settle()
        seen += numbers(iter(growing.new_lines()))
    growing.close()
    assert seen == list(range(writer.count))


def test_a_follower_of_whom_all_was_deleted_goes_on_with_the_oldest(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "x.log", 3, packed=True)
    growing = Growing(str(tmp_path / "x.log"), None)
    writer.write(4)
    seen = numbers(iter(growing.new_lines()))
    writer.write(20)
    writer.settle()
    left = all_of(tmp_path / "x.log")
    assert numbers(iter(growing.new_lines())) == left == list(range(12, 24))
    assert seen == list(range(4))
    growing.close()
    writer.log.close()


def test_a_follower_amid_packed_files(writer: Writer, tmp_path: Path) -> None:
    """What it reads was packed, and the number of the file that was packed is used again."""
    writer.write(30)
    writer.settle()
    growing = Growing(str(tmp_path / "x.log"), None)
    seen = []
    for block in growing.new_lines():
        seen += numbers(iter([block]))
        writer.write(3 if writer.count < 60 else 0)
        writer.settle()
    growing.close()
    assert seen == list(range(writer.count))


def test_an_inode_number_that_is_used_again(tmp_path: Path) -> None:
    """File systems give a new file the number of the one that was deleted last."""
    path = tmp_path / "x.log"
    path.write_bytes(LINE % 2)
    now = path.stat()
    for number, mark in ((1, now.st_ino + 1), (2, now.st_ino)):
        old = tmp_path / f"old{number}"
        old.write_bytes(compress_as(LINE % (2 - number), mark))
        old.rename(f"{path}.{number}.gz")
    assert all_of(path) == [0, 1, 2]
    growing = Growing(str(path), None)
    assert numbers(iter(growing.new_lines())) == [0, 1, 2]
    growing.close()


def compress_as(data: bytes, inode: int) -> bytes:
    """As the shim packs a file that had this inode number."""
    plain = gzip.compress(data)
    stat = os.stat_result((0o100640, inode, 0, 1, 0, 0, len(data), 0, 0, 0))
    return compress.header(stat) + plain[10:]


def test_what_another_program_packed_is_older(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(LINE % 1)
    Path(f"{path}.1.gz").write_bytes(gzip.compress(LINE % 0))
    assert all_of(path) == [0, 1]
    with path.open("rb", buffering=0) as file:
        assert log_run.open_next(str(path), file) is None
        path.rename(f"{path}.2")
        Path(f"{path}.1.gz").rename(f"{path}.3.gz")
        Path(f"{path}.1").write_bytes(LINE % 2)
        following = log_run.open_next(str(path), file)
        assert following is not None
        assert following.read() == LINE % 2
        following.close()


def during_scan(monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[], None]) -> None:
    """Call `act` once, before the file of number `at` is looked at."""
    names = log_run._names

    def slow(path: str) -> Iterator[str]:
        for number, name in enumerate(names(path)):
            if number == at:
                monkeypatch.setattr(log_run, "_names", names)
                act()
            yield name

    monkeypatch.setattr(log_run, "_names", slow)


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("rotations", [1, 3])
def test_rotated_while_the_files_are_opened(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, rotations: int
) -> None:
    writer.write(22)
    writer.settle()

    def rotate() -> None:
        writer.write(4 * rotations)
        writer.settle()

    during_scan(monkeypatch, at, rotate)
    found = all_of(tmp_path / "x.log")
    assert found in (list(range(22)), list(range(24)), list(range(22 + 4 * rotations)))


@pytest.mark.parametrize("at", range(7))
def test_rotated_while_the_next_file_is_looked_for(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    growing = Growing(str(tmp_path / "x.log"), None)
    writer.write(2)
    seen = numbers(iter(growing.new_lines()))
    writer.write(18)
    writer.settle()

    def rotate() -> None:
        writer.write(9)
        writer.settle()

    during_scan(monkeypatch, at, rotate)
    seen += numbers(iter(growing.new_lines()))
    seen += numbers(iter(growing.new_lines()))
    growing.close()
    assert seen == list(range(writer.count))


def test_a_number_left_out_by_a_rotation_under_way(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for number, name in enumerate(("x.log.4", "x.log.3", "x.log.1", "x.log")):
        (tmp_path / name).write_bytes(LINE % number)
    assert all_of(path) == [0, 1, 2, 3]


def test_followed_while_another_writes(tmp_path: Path) -> None:
    """The two at their own speeds, in two processes; a small part of the run is kept."""
    path = tmp_path / "x.log"
    total = 400
    pid = os.fork()
    if pid == 0:
        try:
            made = Writer(path, 900, packed=True)
            made.write(total)
            os._exit(0)
        finally:
            os._exit(1)
    growing, seen = Growing(str(path), None), list[int]()
    deadline = time.monotonic() + 10 * WAIT_S
    while len(seen) < total and time.monotonic() < deadline:
        seen += numbers(iter(growing.new_lines()))
    growing.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert seen == list(range(total))
