"""A thread is never left running by who asked for it."""

import asyncio
import threading

import pytest

from barque.containerd.threads import finished, in_thread


def test_results_and_failures() -> None:
    assert asyncio.run(in_thread(int, "12", base=8)) == 10
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divmod, 1, 0))


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancelled_caller_waits(fails: bool) -> None:
    begun, go_on, told = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait(30)
        done.append("work")
        if fails:
            raise OSError

    async def ask() -> None:
        try:
            await finished(None, work, told.set)
        finally:
            done.append("caller")

    async def main() -> None:
        task = asyncio.create_task(ask())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        assert told.is_set()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == ["work", "caller"]
