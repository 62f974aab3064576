"""What the hot programs load, compared with allow lists: import time is the product."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRY = ROOT / "src" / "barque" / "__main__.py"
ALLOWED = Path(__file__).resolve().parent / "allowed_imports.json"

REPORT = """
import atexit, posix, sys
program = posix.getpid()
def report():
    if posix.getpid() != program:  # a child makes the archive of code where there is none yet
        return
    fd = int(posix.environ[b"REPORT_FD"])
    posix.write(fd, "\\n".join(sorted(sys.modules)).encode())
atexit.register(report)
leave = posix._exit
def report_and_leave(code):
    report()
    leave(code)
posix._exit = report_and_leave
sys.argv[:] = {argv!r}
sys.path.insert(0, {source!r})
from barque.__main__ import main
sys.exit(main({program!r}, {argv!r}))
"""

PROGRAMS = {
    "barque ps": ("barque", ["-H", "unix:///nonexistent/barque.sock", "ps"]),
    "barque run": ("barque", ["-H", "unix:///nonexistent/barque.sock", "run", "busybox", "true"]),
    "barque-runc state": ("barque-runc", ["--root", "/nonexistent", "state", "x"]),
}


def modules_of(program: str, argv: list[str]) -> set[str]:
    """The names in sys.modules when the program ends."""
    code = REPORT.format(argv=argv, source=str(ROOT / "src"), program=program)
    read, write = os.pipe()
    with os.fdopen(read) as report:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            env={"REPORT_FD": str(write), "PATH": os.environ["PATH"]},
            pass_fds=[write],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=30,
        )
        os.close(write)
        return set(report.read().split("\n"))


def bare() -> set[str]:
    code = "import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hot_program_loads_only_what_is_allowed(name: str) -> None:
    program, argv = PROGRAMS[name]
    allowed = set(json.loads(ALLOWED.read_text())[name])
    loaded = modules_of(program, argv)
    own = {module for module in loaded if module == "barque" or module.startswith("barque.")}
    assert own, "the program did not run"
    assert loaded - own - bare() - {"atexit", "__main__"} <= allowed
