"""What the allocator keeps shows in the pages that the kernel has to make for it."""

import resource

from barque.linux import allocator

LARGE_BYTES = 200 << 10


def faults_of_use() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        bytes(bytearray(b"x") * LARGE_BYTES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_memory_is_kept_and_given_back() -> None:
    pages = 100 * LARGE_BYTES // resource.getpagesize()
    try:
        allocator.keep_freed()
        faults_of_use()
        assert faults_of_use() < pages // 10
    finally:
        allocator.give_back()
    assert faults_of_use() > pages // 2
