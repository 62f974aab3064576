"""How the suites build and run: Go without downloads, and a run with a report."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def go_environment(path: Path) -> dict[str, str]:
    """`path` as GOPATH, with Debian's packages of Go libraries and nothing from elsewhere."""
    return {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": f"{path}:/usr/share/gocode",
        "GOFLAGS": "-p=1",
    }


def run_reported(
    command: Sequence[str],
    report: Path,
    *,
    directory: Path,
    environment: Mapping[str, str],
    limit_s: float,
) -> None:
    """Run `command` in `directory`, its output in `report`, its errors in a file beside it. Its
    exit code says nothing; after `limit_s` it is ended."""
    with open(report, "wb") as out, open(report.with_suffix(".err"), "wb") as errors:
        try:
            subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            pass  # its cases without a verdict are told as failed
