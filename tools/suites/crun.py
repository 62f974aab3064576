"""crun's suite: Python programs that call the runtime of `OCI_RUNTIME` with crun's own flags."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.suites.commands import run_reported
from tools.suites.sources import BIN, fetch
from tools.suites.tap import verdicts

PACKAGE = PEER = "crun"
OURS = str(Path(__file__).with_name("as_crun"))
FILE_TIMEOUT_S = 300
# crun refuses cgroups in hybrid mode; without the mount of version 2 it sees version 1 alone
PREPARED = 'if mountpoint -q "$0"; then umount "$0"; fi; exec "$@"'
BESIDE_VERSION_1 = "/sys/fs/cgroup/unified"


def prepare(cache: Path) -> Path:
    """The tree with the program that is each container's first."""
    tree = fetch(PACKAGE, cache)
    (tree / "config.h").write_text("#define HAVE_SECCOMP 1\n")
    command = ["gcc", "-static", "-w", "-I.", "-o", "tests/init", "tests/init.c"]
    subprocess.run(command, check=True, cwd=tree)
    return tree


def run(tree: Path, program: str, place: Path) -> dict[str, str]:
    """The verdicts of all files; what they print stays in `place`."""
    found = {}
    for file in sorted((tree / "tests").glob("test_*.py")):
        report = place / f"{file.stem}.tap"
        _run_file(tree, file, program, report)
        cases = verdicts(report.read_text(errors="replace"))
        found.update({f"{file.stem}: {name}": verdict for name, verdict in cases.items()})
    return found


def _run_file(tree: Path, file: Path, program: str, report: Path) -> None:
    environment = {**os.environ, "OCI_RUNTIME": program, "INIT": str(tree / "tests/init")}
    environment["BARQUE_RUNC"] = str(BIN / "barque-runc")  # which as_crun calls
    command = ["unshare", "-m", "sh", "-c", PREPARED, BESIDE_VERSION_1, sys.executable, str(file)]
    run_reported(command, report, directory=tree, environment=environment, limit_s=FILE_TIMEOUT_S)
