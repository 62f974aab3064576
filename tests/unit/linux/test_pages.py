from __future__ import annotations

import ctypes
import mmap
import os

from barque.linux import pages

COUNT = 64


def test_what_is_made_own_is_this_processs_alone() -> None:
    memory = mmap.mmap(-1, COUNT * pages.SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(memory), pages.SIZE):
        memory[at] = 1
    span = place_of(memory)
    # A child shares every page until one of the two writes to it.
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, told(pages.alone([span])))
        pages.make_own(span[0] + pages.SIZE, 2 * pages.SIZE)
        memory[5 * pages.SIZE] = 2
        os.write(write, told(pages.alone([span])))
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as report:
        before, after = report.read().splitlines()
    first = span[0]
    assert before == "[]"
    assert after == str(
        [(first + pages.SIZE, 2 * pages.SIZE), (first + 5 * pages.SIZE, pages.SIZE)]
    )


def place_of(memory: mmap.mmap) -> pages.Span:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory)


def told(spans: list[pages.Span]) -> bytes:
    return f"{spans}\n".encode()


def test_mappings_that_are_written_to_have_what_was_just_made() -> None:
    memory = mmap.mmap(-1, COUNT * pages.SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, COUNT * pages.SIZE)
    spans = pages.written()
    for made, there in ((memory, True), (shared, False)):
        first, length = place_of(made)
        found = [span for span in spans if span[0] <= first < sum(span)]
        assert bool(found) == there
        assert all(first + length <= sum(span) for span in found)
