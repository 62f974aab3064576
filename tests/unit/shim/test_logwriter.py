"""A log that does not hold its container back: nothing lost while it keeps up, whole lines left out
and counted while it does not. The disk that blocks is a fifo that nobody reads."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque.shim.logs import OutputLog, json_file
from barque.shim.logwriter import BackgroundLog
from barque.shim.loop import Loop, Pending

WAIT_S = 30
BOUND = 100_000
LINE = b"line %06d ...........................................................................\n"


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def run_until(loop: Loop, wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S

    def look() -> None:
        assert time.monotonic() < deadline
        if wanted():
            loop.stop()
        else:
            loop.after(0.01, look)

    look()
    if not wanted():
        loop.run()


def settle(loop: Loop, log: BackgroundLog) -> None:
    done: Pending = log.settled()
    run_until(loop, lambda: done.done)


def maker(path: Path, warnings: list[str]) -> Callable[[], OutputLog]:
    return lambda: json_file(str(path), 0, 1, {}, warnings.append)


def texts(data: bytes) -> list[str]:
    return [json.loads(line)["log"] for line in data.splitlines()]


def test_all_of_it_in_order(tmp_path: Path, loop: Loop) -> None:
    warnings: list[str] = []
    log = BackgroundLog(loop, maker(tmp_path / "log", warnings), BOUND, warnings.append)
    source = random.Random(3)
    data = b"".join(b"line %04d\n" % number for number in range(1000)) + b"the end"
    at = 0
    while at < len(data):
        size = source.randrange(1, 90)
        log.write(1, data[at : at + size])
        at += size
    log.end(1)
    settle(loop, log)
    log.close()
    assert "".join(texts((tmp_path / "log").read_bytes())).encode() == data
    assert not warnings


def test_a_disk_that_blocks(tmp_path: Path, loop: Loop) -> None:
    """Written without waiting; what is there in the end are whole lines and the number of those
    that are not."""
    path, total = tmp_path / "log", 40_000
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = BackgroundLog(loop, maker(path, []), BOUND, print)
    output = b"".join(LINE % number for number in range(total))
    source, at = random.Random(5), 0
    while at < len(output):  # 3 MB in chunks that end anywhere, and nobody takes them
        size = source.randrange(1, 9000)
        log.write(1, output[at : at + size])
        at += size
    assert log._writer.queued < BOUND + 2 * 9000
    log.end(1)
    done, found = log.settled(), b""

    def take() -> bool:
        nonlocal found
        try:
            found += os.read(reader, 1 << 20)
        except BlockingIOError:
            pass
        return done.done

    run_until(loop, take)
    log.close()
    take()
    os.close(reader)
    noted = [text for text in texts(found) if text.startswith("[barque:")]
    kept = [text.encode() for text in texts(found) if not text.startswith("[barque:")]
    lost = sum(int(re.findall(r"\d+", text)[0]) for text in noted)
    assert lost > 0
    numbers = [int(text[5:11]) for text in kept if len(text) == len(LINE % 0)]
    assert len(numbers) >= len(kept) - 1  # one may have been begun when the queue was full
    assert total <= len(kept) + lost <= total + 1  # that one is counted as lost
    assert numbers == sorted(numbers)


def test_it_goes_on_when_the_writer_is_killed(tmp_path: Path, loop: Loop) -> None:
    warnings: list[str] = []
    before = children(os.getpid())
    log = BackgroundLog(loop, maker(tmp_path / "log", warnings), BOUND, warnings.append)
    log.write(1, b"before\n")
    settle(loop, log)
    (writer,) = children(os.getpid()) - before
    os.kill(writer, signal.SIGKILL)
    run_until(loop, lambda: bool(warnings))
    log.write(1, b"after\n")
    settle(loop, log)
    log.close()
    assert texts((tmp_path / "log").read_bytes()) == ["before\n", "after\n"]
    assert len(warnings) == 1
    assert "was killed" in warnings[0]


def test_what_was_taken_is_written_when_the_shim_is_killed(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            log = BackgroundLog(Loop(), maker(tmp_path / "log", []), 1 << 20, print)
            log.write(1, b"".join(b"line %d\n" % number for number in range(2000)))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    path, deadline = tmp_path / "log", time.monotonic() + WAIT_S
    while not (path.exists() and path.read_bytes().count(b"\n") == 2000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert texts(path.read_bytes()) == [f"line {number}\n" for number in range(2000)]


def children(pid: int) -> set[int]:
    """Those that are not reaped."""
    names = filter(str.isdigit, os.listdir("/proc"))
    return {int(name) for name in names if _parent(int(name)) == pid}


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])
