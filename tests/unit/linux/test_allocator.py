"""What the allocator keeps shows in the pages that the kernel has to make for it."""

import subprocess
import sys
from pathlib import Path

import barque

# A process of its own: what other tests left in the heap decides where its top is.
PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from barque.linux import allocator

LARGE_BYTES = 200 << 10
pages = 100 * LARGE_BYTES // resource.getpagesize()

def faults_of_use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        bytes(bytearray(b"x") * LARGE_BYTES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

allocator.keep_freed()
faults_of_use()
kept = faults_of_use()
allocator.give_back()
print(kept < pages // 10, faults_of_use() > pages // 2)
"""


def test_memory_is_kept_and_given_back() -> None:
    source = str(Path(barque.__file__).parents[1])
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, source]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "True True\n"
