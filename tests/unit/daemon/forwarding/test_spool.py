"""The spool: every line once, whatever is rotated and whoever dies."""

import os
import random
from pathlib import Path

from barque.daemon.forwarding.spool import Spool
from barque.shim import compress
from barque.shim.logs import LogFile


def drained(spool: Spool) -> bytes:
    found = b""
    while lines := spool.read():
        found += lines
        spool.sent(len(lines))
    return found


def rotate(log: Path, count: int) -> None:
    for number in range(count - 1, 0, -1):
        source = log.with_name(f"{log.name}.{number}") if number else log
        if source.exists():
            source.rename(f"{log}.{number + 1}")
    log.rename(f"{log}.1")
    log.write_bytes(b"")


def test_lines_only_when_they_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "l"
    spool = Spool(log)
    assert spool.read() == b""
    log.write_bytes(b"one\ntw")
    assert drained(spool) == b"one\n"
    with log.open("ab") as file:
        file.write(b"o\n")
    assert drained(spool) == b"two\n"
    spool.close()


def test_every_line_once_across_rotations_and_restarts(tmp_path: Path) -> None:
    source = random.Random(5)
    log = tmp_path / "l"
    log.write_bytes(b"")
    spool, found, number = Spool(log), b"", 0
    for _ in range(400):
        step = source.randrange(6)
        if step < 3:
            with log.open("ab") as file:
                file.write(b"%d\n" % number)
            number += 1
        elif step == 3:
            rotate(log, 90)
        elif step == 4:
            found += drained(spool)
        else:
            spool.close()
            spool = Spool(log)
    found += drained(spool)
    spool.close()
    assert found == b"".join(b"%d\n" % n for n in range(number))


def test_what_was_rotated_away_is_lost_and_the_rest_is_not(tmp_path: Path) -> None:
    log = tmp_path / "l"
    log.write_bytes(b"lost\n")
    spool = Spool(log)
    spool.sent(0)
    rotate(log, 5)
    log.write_bytes(b"kept\n")
    os.unlink(tmp_path / "l.1")
    assert drained(spool) == b"kept\n"
    spool.close()


def test_a_new_file_with_the_number_of_the_one_read_last(tmp_path: Path) -> None:
    """The file system gave the number of a deleted file to another: that is read from its start."""
    log = tmp_path / "l"
    log.write_bytes(b"one\ntwo\n")
    spool = Spool(log)
    assert drained(spool) == b"one\ntwo\n"
    spool.close()
    inode = log.stat().st_ino
    with log.open("r+b") as file:  # as if it were another file: all of it is new
        file.write(b"abc\ndef\nghi\n")
    assert log.stat().st_ino == inode
    spool = Spool(log)
    assert drained(spool) == b"abc\ndef\nghi\n"
    spool.close()


def test_files_that_were_packed(tmp_path: Path) -> None:
    """Many rotations behind, and a new life in the middle."""
    log = tmp_path / "l"
    file = LogFile(str(log), 40, 30, print, packed=True)
    spool, found = Spool(log), b""
    for number in range(100):
        file.append(b"line %04d\n" % number)
        if number % 17 == 0:
            spool.close()
            compress.wait(file._packer)
            spool = Spool(log)
            block = spool.read()
            spool.sent(len(block))
            found += block
    found += drained(spool)
    spool.close()
    file.close()
    assert found == b"".join(b"line %04d\n" % number for number in range(100))
