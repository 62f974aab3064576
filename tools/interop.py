"""Write docs/interop.md: which part was tried with which other's, by which tests, with what result.

`python -m tools.interop` runs the tests of `PAIRS` (as root, beside the real peers) and writes the
page; `--from REPORT.xml...` takes the reports of earlier runs instead (pytest --junitxml);
`--check` fails when the pairs are no longer those that the page tells of.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "interop.md"
PROGRAMS = (
    ("containerd and ctr", ("containerd", "--version"), r"containerd/containerd (\S+)"),
    ("dockerd", ("dockerd", "--version"), r"version ([^\s,]+)"),
    ("docker", ("docker", "--version"), r"version ([^\s,]+)"),
    ("runc", ("runc", "--version"), r"version (\S+)"),
    ("crun", ("crun", "--version"), r"version (\S+)"),
    ("podman", ("podman", "--version"), r"version (\S+)"),
    ("docker-registry", ("docker-registry", "--version"), r" v?(\d\S*)"),
    ("skopeo", ("skopeo", "--version"), r"version (\S+)"),
)


class Pair(NamedTuple):
    """Who is tried with whom; `cases` selects by pytest's ids ("": all of the file)."""

    asks: str
    answers: str
    file: str
    cases: str = ""


PAIRS = (
    Pair("ctr", "barque-containerd", "tests/interop/containerd/test_ctr_stores.py"),
    Pair("ctr", "barque-containerd", "tests/interop/containerd/test_ctr_commands.py"),
    Pair("ctr", "barque-containerd", "tests/interop/containerd/test_tasks.py", "[all-ours"),
    Pair("dockerd", "barque-containerd", "tests/interop/containerd/test_dockerd.py"),
    Pair("barqued", "containerd", "tests/interop/daemon/test_real_containerd.py"),
    Pair(
        "our client of containerd",
        "containerd",
        "tests/interop/containerd/test_client_tasks.py",
        "[all-theirs",
    ),
    Pair("containerd", "our shim", "tests/interop/shim/test_real_containerd.py"),
    Pair(
        "barque-containerd",
        "containerd-shim-runc-v2",
        "tests/interop/containerd/test_client_tasks.py",
        "[their-shim",
    ),
    Pair("our shim", "runc", "tests/integration/shim/test_life.py", "[runc"),
    Pair("our shim", "crun", "tests/integration/shim/test_life.py", "[crun"),
    Pair("podman, dockerd, containerd", "barque-runc", "tests/interop/runc/test_peers.py"),
    Pair("docker", "barqued", "tests/interop/engine/test_docker_cli.py"),
    Pair("Docker's SDKs", "barqued", "tests/interop/engine/test_sdks.py"),
    Pair("docker-compose", "barqued", "tests/interop/engine/test_compose.py"),
    Pair("barque", "podman", "tests/interop/cli/test_podman.py"),
    Pair("barque-containerd", "docker-registry", "tests/interop/containerd/test_transfer.py"),
)


class Outcome(NamedTuple):
    passed: int
    other: int


def outcomes(*reports: Path) -> dict[Pair, Outcome]:
    """By pair, how many tests passed and how many did not; of a test told twice the last counts."""
    cases = {name: passed for report in reports for name, passed in _cases(report)}
    found = {}
    for pair in PAIRS:
        module = pair.file.removesuffix(".py").replace("/", ".")
        mine = [
            passed
            for name, passed in cases.items()
            if name.startswith((f"{module}.", f"{module}::"))
            if pair.cases in name
        ]
        found[pair] = Outcome(sum(mine), len(mine) - sum(mine))
    return found


def _cases(report: Path) -> Iterator[tuple[str, bool]]:
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        yield name, not any(child.tag in ("failure", "error", "skipped") for child in case)


def versions() -> Iterator[tuple[str, str]]:
    for name, command, pattern in PROGRAMS:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(pattern, done.stdout + done.stderr)
        yield name, found[1] if found else "not there"


def row(pair: Pair) -> str:
    """A row of the table without its result: what `--check` looks for."""
    which = f", cases `{pair.cases[1:]}`" if pair.cases else ""
    return f"| {pair.asks} | {pair.answers} | `{pair.file}`{which} |"


def page(found: Mapping[Pair, Outcome]) -> str:
    lines = [
        "# Who works with whom",
        "",
        "Made by `python -m tools.interop` from a run of the tests; do not edit. Each part of",
        "Barque was put in the place of its counterpart, beside the real neighbour.",
        "",
        "| asks | answers | tests | passed |",
        "| --- | --- | --- | --- |",
    ]
    for pair, outcome in found.items():
        missed = f", {outcome.other} did not" if outcome.other else ""
        lines.append(f"{row(pair)} {outcome.passed}{missed} |")
    lines += ["", "The others were:", ""]
    lines += [f"- {name} {version}" for name, version in versions()]
    return "\n".join(lines) + "\n"


def stale(text: str) -> list[str]:
    """The rows that the page lacks, and those whose tests are not there any more."""
    gone = [row(pair) for pair in PAIRS if not (ROOT / pair.file).is_file()]
    told = {line.rsplit("|", 2)[0] + "|" for line in text.splitlines() if line.endswith("|")}
    return gone + [row(pair) for pair in PAIRS if row(pair) not in told]


def run(report: Path) -> None:
    files = sorted({pair.file for pair in PAIRS})
    command = [sys.executable, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile"]
    subprocess.run([*command, f"--junitxml={report}", *files], cwd=ROOT, check=False)


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--check"]:
        missing = stale(PAGE.read_text())
        for line in missing:
            print(f"docs/interop.md lacks: {line}")
        return 1 if missing else 0
    with tempfile.TemporaryDirectory() as directory:
        reports = [Path(name) for name in arguments[1:]]
        if arguments[:1] != ["--from"]:
            reports = [Path(directory, "report.xml")]
            run(reports[0])
        found = outcomes(*reports)
    PAGE.write_text(page(found))
    return 1 if any(one.other or not one.passed for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
