"""What the zygote has in memory: everything a shim and a runtime need, and nothing costly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import barque

PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
from barque.shim import zygote
from barque.runc import main
main.preload()
print(*sorted(set(sys.modules) - before))
"""
# Standard library modules that may be loaded; ctypes brings the second line.
ALLOWED = {
    *(
        "__future__",
        "errno",
        "fcntl",
        "gc",
        "mmap",
        "resource",
        "select",
        "stat",
        "struct",
        "termios",
    ),
    *("ctypes", "ctypes._endian", "types", "genericpath", "os", "os.path", "posixpath"),
    *("_collections", "_ctypes", "_functools", "_json", "_operator", "_socket", "_stat"),
    *("_struct", "_sha256", "_sha2", "_collections_abc", "_signal", "math", "itertools", "time"),
}


def test_the_zygote_loads_nothing_costly() -> None:
    source = Path(barque.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name for name in done.stdout.split() if name.split(".")[0] != "barque"}
    assert loaded <= ALLOWED
