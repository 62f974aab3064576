"""How one Barque program starts another: as argv, through the same interpreter and entry point."""

import sys

from barque.__main__ import PROGRAMS

ENTRY = __file__.rsplit("/", 1)[0] + "/__main__.py"


def command(program: str, *arguments: str) -> list[str]:
    """The argv that runs `program` (a key of `barque.__main__.PROGRAMS`) with `arguments`."""
    assert program in PROGRAMS, program
    return [sys.executable, "-I", "-S", ENTRY, program, *arguments]
