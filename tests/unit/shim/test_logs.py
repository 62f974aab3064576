from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

import pytest

from barque.daemon.containers.log_local import LocalFormat
from barque.shim.logs import LogFile, json_file, local


def warned(_: str) -> None:
    raise AssertionError("no warning is due")


def texts(path: Path) -> list[str]:
    return [json.loads(line)["log"] for line in path.read_text().splitlines()]


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        log = json_file(str(path), 0, 1, {}, warned)
        log.write(1, text)
        log.close()
    assert texts(path) == ["one\n", "two\n"]
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_streams_have_their_own_unfinished_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = json_file(str(path), 0, 1, {"k": "v"}, warned)
    log.write(1, b"a")
    log.write(2, b"b")
    log.write(1, b"c\n")
    log.end(2)
    log.end(1)
    log.close()
    assert texts(path) == ["ac\n", "b"]
    assert json.loads(path.read_text().splitlines()[0])["attrs"] == {"k": "v"}


@pytest.mark.parametrize("files", [1, 2, 4])
def test_rotation_keeps_whole_lines_and_the_newest_files(tmp_path: Path, files: int) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), 100, files, warned)
    for number in range(50):
        log.append(b"%04d 4567890123456789012345678\n" % number)
    log.close()
    names = sorted(os.listdir(tmp_path))
    assert names == ["log", *[f"log.{n}" for n in range(1, files)]]
    kept = [*reversed(names[1:]), "log"]
    numbers = [
        int(line[:4]) for name in kept for line in (tmp_path / name).read_text().splitlines()
    ]
    assert numbers == list(range(50 - len(numbers), 50))


def test_a_large_append_rotates_within(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 10, 3, warned)
    log.append(b"123456\n" * 5)
    log.close()
    assert [(tmp_path / name).read_bytes().count(b"\n") for name in ("log.2", "log.1", "log")] == [
        2,
        2,
        1,
    ]


def test_a_log_is_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="Too many levels"):
        LogFile(str(tmp_path / "log"), 0, 1, warned)


def test_lost_lines_are_counted_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    path = tmp_path / "log"
    log = json_file(str(path), 0, 1, {}, warnings.append)
    log.write(1, b"before\n")
    write = os.write
    room = 20

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        done = write(fd, data[:room])
        room -= done
        return done

    monkeypatch.setattr(os, "write", full)
    log.write(1, b"lost 1\nlost 2\n")
    log.write(1, b"lost 3\n")
    monkeypatch.undo()
    log.write(1, b"after\n")
    log.close()
    assert texts(path) == [
        "before\n",
        "[barque: 3 lines of this log are lost: No space left on device]\n",
        "after\n",
    ]
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]


def local_texts(data: bytes) -> list[str]:
    return [line.log for line in LocalFormat().decode(data)]


def test_a_failure_that_ends_after_the_note_is_noted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    path = tmp_path / "log"
    log = json_file(str(path), 0, 1, {}, warnings.append)
    write, fails = os.write, iter([True, True])  # a line, and the note of it

    def sometimes_full(fd: int, data: bytes) -> int:
        if next(fails, False):
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", sometimes_full)
    for line in (b"one\n", b"two\n", b"three\n"):
        log.write(1, line)
    monkeypatch.undo()
    log.close()
    note = "[barque: 1 lines of this log are lost: No space left on device]\n"
    assert texts(path) == ["two\n", note, "three\n"]


def test_a_local_log_rotates_at_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "local-logs" / "container.log"
    log = local(str(path), 200, 3, warned)
    log.write(1, b"".join(b"line %04d\n" % number for number in range(100)))
    log.write(1, b"rest")
    log.end(1)
    log.close()
    names = sorted(os.listdir(path.parent))
    assert names == ["container.log", "container.log.1", "container.log.2"]
    kept = [text for name in (*reversed(names[1:]), names[0])
            for text in local_texts((path.parent / name).read_bytes())]  # fmt: skip
    assert kept[-1] == "rest"
    assert kept[:-1] == [f"line {n:04}\n" for n in range(101 - len(kept), 100)]


def test_rotated_files_are_packed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = json_file(str(path), 1000, 4, {}, warned, packed=True)
    for number in range(200):
        log.write(1, b"line %04d\n" % number)
    log.close()
    packed = ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
    deadline = time.monotonic() + 30
    while sorted(os.listdir(tmp_path)) != packed:
        assert time.monotonic() < deadline, os.listdir(tmp_path)
        time.sleep(0.01)
    data = b"".join(gzip.decompress((tmp_path / f"log.{n}.gz").read_bytes()) for n in (3, 2, 1))
    lines = [json.loads(line)["log"] for line in (data + path.read_bytes()).splitlines()]
    assert lines == [f"line {n:04}\n" for n in range(200 - len(lines), 200)]
    assert (tmp_path / "log.1.gz").stat().st_mode & 0o777 == 0o640 & ~_umask()


def test_a_file_that_was_left_unpacked_goes_its_way(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for name in ("log", "log.1", "log.2.gz", "log.3", "log.3.gz"):
        (tmp_path / name).write_bytes(f"{name}\n".encode())
    log = LogFile(str(path), 3, 4, warned)
    log.append(b"new\n")
    log.close()
    files = {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)}
    assert files == {
        "log": "new\n", "log.1": "log\n", "log.2": "log.1\n", "log.3.gz": "log.2.gz\n"
    }  # fmt: skip
