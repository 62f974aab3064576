"""The spool: every line once, whatever is rotated and whoever dies."""

import os
import random
from pathlib import Path

from barque.daemon.forwarding.spool import Spool


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
