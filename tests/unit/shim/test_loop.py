from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from barque.shim.loop import READ, Loop, Pending
from barque.shim.streams import Source, Writer

if TYPE_CHECKING:
    from barque.shim.loop import Routine


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def child(code: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    return pid


def test_dead_children_are_reaped_and_told(loop: Loop) -> None:
    codes: list[int] = []
    children = [child(code) for code in (0, 3, 7)]
    for pid in children:

        def exited(status: int) -> None:
            codes.append(os.waitstatus_to_exitcode(status))
            if len(codes) == 3:
                loop.stop()

        loop.on_exit(pid, exited)
    loop.run()
    assert sorted(codes) == [0, 3, 7]
    for pid in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_a_routine_waits_until_there_is_something_to_read(loop: Loop) -> None:
    """Again and again at the same descriptor, and to its end."""
    reader, writer = os.pipe()
    seen: list[bytes] = []

    def routine() -> Routine:
        for _ in range(3):
            yield loop.readable(reader)
            seen.append(os.read(reader, 1))
        loop.stop()

    loop.spawn(routine())

    def write() -> None:
        os.write(writer, b"ab")
        os.close(writer)

    loop.after(0, write)
    loop.run()
    os.close(reader)
    assert seen == [b"a", b"b", b""]


def test_a_child_that_died_before_anyone_asked(loop: Loop) -> None:
    def reaped_before_asked() -> list[int]:
        pid = child(5)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        loop.reap()
        told: list[int] = []
        loop.on_exit(pid, told.append)
        return [os.waitstatus_to_exitcode(status) for status in told]

    loop.expect_pid()
    assert reaped_before_asked() == [5]
    loop.expect_no_more()
    assert reaped_before_asked() == []


def test_a_pid_that_another_had_before(loop: Loop) -> None:
    """What was kept for it is not the end of the one that has it now."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(5)
    loop.expect_pid()
    loop._unclaimed[pid] = 0  # as an orphan of the same pid would have left it
    told: list[int] = []

    def tell(status: int) -> None:
        told.append(status)
        loop.stop()

    loop.on_exit(pid, tell)
    loop.expect_no_more()
    assert told == []
    os.write(write, b"x")
    loop.run()
    assert [os.waitstatus_to_exitcode(status) for status in told] == [5]
    os.close(read)
    os.close(write)


def test_routines_wait_and_return_and_raise(loop: Loop) -> None:
    gate = Pending()

    def inner() -> Routine:
        value = yield gate
        return value + 1

    def outer() -> Routine:
        value = yield from inner()
        try:
            yield failing
        except ValueError as error:
            return (value, str(error))

    failing = Pending()
    result = loop.spawn(outer())
    assert not result.done
    gate.set(41)
    failing.fail(ValueError("no"))
    assert result.value == (42, "no")

    def broken() -> Routine:
        yield gate
        raise KeyError("x")

    assert isinstance(loop.spawn(broken()).error, KeyError)


def test_deadlines_come_in_order_and_can_be_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    loop.after(0.02, lambda: seen.append("late"))
    loop.after(0.03, loop.stop)
    loop.after(0.01, lambda: seen.append("never")).cancel()
    loop.after(0, lambda: seen.append("soon"))
    loop.run()
    assert seen == ["soon", "late"]


def test_lingering_is_waited_for(loop: Loop) -> None:
    idle: list[int] = []
    loop.when_idle(lambda: idle.append(1))
    assert idle == [1]
    loop.linger("x")
    loop.when_idle(lambda: idle.append(2))
    assert idle == [1]
    loop.linger_no_more("x")
    assert idle == [1, 2]


def test_a_source_that_is_held_is_not_read_and_drains_exactly_what_is_there(loop: Loop) -> None:
    read, write = os.pipe()
    got = bytearray()
    source = Source(loop, read, got.extend)
    source.hold(True)
    os.write(write, b"x" * 1000)
    loop.after(0.02, loop.stop)
    loop.run()
    assert not got
    source.drain()
    assert bytes(got) == b"x" * 1000
    source.hold(False)
    os.close(write)
    source.ended.then(lambda _: loop.stop())
    loop.run()
    assert source.ended.done


def test_a_writer_queues_says_when_it_has_caught_up_and_closes_after_the_rest(loop: Loop) -> None:
    read, write = os.pipe()
    caught_up: list[int] = []
    writer = Writer(loop, write, lambda: caught_up.append(1))
    data = os.urandom(1 << 20)
    assert not writer.write(data)
    writer.close()
    got = bytearray()

    def drain() -> None:
        while chunk := os.read(read, 1 << 16):
            got.extend(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    loop.when_idle(loop.stop)
    loop.run()
    reader.join()
    assert bytes(got) == data
    assert caught_up
    os.close(read)


def test_a_broken_writer_swallows(loop: Loop) -> None:
    read, write = os.pipe()
    writer = Writer(loop, write)
    os.close(read)
    assert writer.write(b"x")
    assert writer.closed
    assert writer.write(b"y")


def test_watching_stops(loop: Loop) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    seen: list[int] = []

    def ready(events: int) -> None:
        seen.append(events)
        loop.unwatch(read)

    loop.watch(read, READ, ready)
    loop.after(0.02, loop.stop)
    loop.run()
    assert seen == [READ]
    loop.unwatch(read)
    os.close(read)
    os.close(write)
