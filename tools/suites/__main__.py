"""Run the peers' suites, as root, and write docs/suites.md: `python -m tools.suites [SUITE...]`.

The page has every suite that was ever run here; those not named keep their last results.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tools.suites import containerd, crun, page, runc
from tools.suites.sources import ROOT

CACHE = ROOT / "build" / "cache" / "suites"


class Suite(Protocol):
    """A suite is a module that has these."""

    PACKAGE: str  # Debian's source package
    PEER: str  # the program that it was written for
    OURS: str  # ours in its place

    def prepare(self, cache: Path, /) -> Path: ...

    def run(self, tree: Path, program: str, place: Path, /) -> dict[str, str]: ...


SUITES: dict[str, Suite] = {"runc": runc, "crun": crun, "containerd": containerd}


def results_of(name: str, suite: Suite) -> page.Results:
    peer = shutil.which(suite.PEER)
    if peer is None:
        raise SystemExit(f"{suite.PEER} is not installed")
    tree = suite.prepare(CACHE)
    verdicts = {}
    for program in (peer, suite.OURS):
        reports = CACHE / "reports" / name / ("peer" if program == peer else "ours")
        shutil.rmtree(reports, ignore_errors=True)
        reports.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as place:
            Path(place).chmod(0o755)
            print(f"{name} on {program}", file=sys.stderr)
            verdicts[program] = suite.run(tree, program, Path(place))
            shutil.copytree(place, reports, dirs_exist_ok=True, ignore=_not_reports)
    return page.Results(name, version(peer), verdicts[peer], verdicts[suite.OURS])


def _not_reports(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith((".tap", ".err"))]


def version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(?:version|containerd/containerd) v?(\S+)", done.stdout)
    return found[1] if found else ""


def main(names: Sequence[str]) -> int:
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in names or SUITES:
        results = results_of(name, SUITES[name])
        (CACHE / f"{name}.json").write_text(json.dumps(results, indent=1))
    every = [page.Results(*json.loads(path.read_text())) for path in sorted(CACHE.glob("*.json"))]
    page.PAGE.write_text(page.page(every, page.PAGE.read_text()))
    known = page.reasons()
    left = [f"{one.suite}: {case}" for one in every for case in page.unexplained(one, known)]
    for line in left:
        print(f"passes on the peer alone, for no known reason: {line}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
