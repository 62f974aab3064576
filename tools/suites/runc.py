"""runc's suite: bats files that call the runtime of `RUNC`."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path

from tools import busybox_image, debian_image
from tools.suites.commands import go_environment
from tools.suites.sources import BIN, fetch
from tools.suites.tap import verdicts

PACKAGE = PEER = "runc"
OURS = str(BIN / "barque-runc")
PROGRAMS = ("recvtty", "seccompagent")  # sd-helper is for machines that run systemd
# Debian as the suite knows it: the hooks' tests ask ldconfig, which the smallest system has
DEBIAN_PACKAGES = ("bash",)
IN_GOPATH = "src/github.com/opencontainers/runc"
FILE_TIMEOUT_S = 900
CGROUPS = Path("/sys/fs/cgroup")
INSIDE = "tests/integration"


def prepare(cache: Path) -> Path:
    """The tree with its programs built and its images in place."""
    tree = cache / "go" / IN_GOPATH
    tree.parent.mkdir(parents=True, exist_ok=True)
    fetched = fetch(PACKAGE, cache)
    shutil.rmtree(tree, ignore_errors=True)
    fetched.rename(tree)
    _build(tree, cache / "go")
    _images(tree / INSIDE / "testdata", cache)
    return tree


def _build(tree: Path, gopath: Path) -> None:
    for name in PROGRAMS:
        place = f"contrib/cmd/{name}"
        command = ["go", "build", "-tags", "seccomp", "-o", f"{place}/{name}", f"./{place}"]
        subprocess.run(command, check=True, cwd=tree, env=go_environment(gopath))


def _images(testdata: Path, cache: Path) -> None:
    """The two root file systems that the suite would download, made here."""
    debian = debian_image.build(cache, packages=DEBIAN_PACKAGES)
    machine = busybox_image.architecture()
    for name, raw in (("busybox", busybox_image.rootfs()), ("debian", debian.read_bytes())):
        (testdata / f"{name}-{machine}.tar.xz").write_bytes(lzma.compress(raw, preset=0))


def run(tree: Path, program: str, place: Path) -> dict[str, str]:
    """The verdicts of all files; what they print stays in `place`."""
    found = {}
    before = set(os.listdir(CGROUPS))
    for file in sorted((tree / INSIDE).glob("*.bats")):
        report = place / f"{file.stem}.tap"
        _run_file(file, program, report)
        cases = verdicts(report.read_text(errors="replace"))
        found.update({f"{file.stem}: {name}": verdict for name, verdict in cases.items()})
    for name in set(os.listdir(CGROUPS)) - before:  # hierarchies that are not mounted, to it
        shutil.rmtree(CGROUPS / name)
    return found


def _run_file(file: Path, program: str, report: Path) -> None:
    """On a terminal of its own: containers of the suite take the caller's."""
    line = f"exec bats -t {file} >{report} 2>{report.with_suffix('.err')} </dev/null"
    environment = {**os.environ, "RUNC": program, "TMPDIR": str(report.parent), "SHELL": "/bin/sh"}
    try:
        subprocess.run(
            ["script", "--quiet", "--command", line, "/dev/null"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            timeout=FILE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        pass  # its cases without a verdict are told as failed
