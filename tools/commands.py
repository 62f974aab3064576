"""Write docs/commands.md: what our command does on engines of others, from a run of its tests.

`python -m tools.commands` runs them (as root, beside the real engines) and writes the page;
`--from REPORT.xml` takes the report of an earlier run (pytest --junitxml); `--check` fails when the
commands are no longer those that the page tells of.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tools.interop import versions

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "commands.md"
TESTS = "tests/interop/cli/test_commands.py"
LINES = ROOT / "tests/interop/cli/commands.txt"
ENGINES = ("dockerd", "podman")
HEAD = f"""# Commands on engines of others

Made by `python -m tools.commands` from a run of `{TESTS}`; do not edit. `barque` did the lines
of `{LINES.relative_to(ROOT)}` on the real engines. What is refused there, docker's own command
is refused in the same words.

"""


def commands() -> list[str]:
    lines = LINES.read_text().splitlines()
    return [line.partition(": ")[0] for line in lines if not line.startswith("#")]


def results(report: Path) -> dict[tuple[str, str], bool]:
    """Whether the test passed, by engine and command."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if match := re.search(r"\[(\w+)-(.+)\]$", case.get("name") or ""):
            found[match[1], match[2]] = len(case) == 0
    return found


def page(found: Mapping[tuple[str, str], bool]) -> str:
    table = [["command", *ENGINES], ["---"] * (1 + len(ENGINES))]
    for command in commands():
        words = [_word(command, engine, found[engine, command]) for engine in ENGINES]
        table.append([command.partition(" !")[0], *words])
    used = [f"- {name} {version}" for name, version in versions() if name in (*ENGINES, "docker")]
    return (
        HEAD + "".join(f"| {' | '.join(row)} |\n" for row in table) + "\n" + "\n".join(used) + "\n"
    )


def _word(command: str, engine: str, passed: bool) -> str:
    if not passed:
        return "no"
    return "refused" if f"!{engine}" in command else "yes"


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--check"]:
        told = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines()]
        missing = [command for command in commands() if command.partition(" !")[0] not in told]
        print("".join(f"docs/commands.md lacks: {command}\n" for command in missing), end="")
        return 1 if missing else 0
    with tempfile.TemporaryDirectory() as directory:
        report = (
            Path(arguments[1]) if arguments[:1] == ["--from"] else Path(directory, "report.xml")
        )
        if not arguments:
            pytest = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", TESTS]
            subprocess.run(pytest, cwd=ROOT, check=False)
        found = results(report)
    PAGE.write_text(page(found))
    return 1 if not all(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
