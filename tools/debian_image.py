"""Builds a Debian base image with nginx by debootstrap, kept in a cache directory.

    python tools/debian_image.py --cache DIRECTORY OUTPUT.tar

The tar is a root file system for `import`. It is built once for each suite and package list; later
calls copy (or link) what the cache holds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("nginx-light", "procps", "curl", "ca-certificates")
BUILD_TIMEOUT_S = 1800
# Nothing of the build machine and nothing that changes from build to build.
DROPPED = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./etc/hostname",
    "./etc/resolv.conf",
    "./etc/machine-id",
    "./dev/*",
    "./proc/*",
    "./sys/*",
)


def cache_name(suite: str, packages: tuple[str, ...]) -> str:
    key = hashlib.sha256("\n".join([suite, *packages]).encode()).hexdigest()[:12]
    return f"debian-{suite}-{key}.tar"


def _debootstrap(suite: str, packages: tuple[str, ...], target: Path, mirror: str) -> None:
    program = shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise SystemExit("debootstrap not found: install the package debootstrap")
    command = [program, "--variant=minbase", f"--include={','.join(packages)}", suite, str(target)]
    subprocess.run([*command, mirror] if mirror else command, check=True, timeout=BUILD_TIMEOUT_S)


def _pack(rootfs: Path, output: Path) -> None:
    excludes = [f"--exclude={pattern}" for pattern in DROPPED]
    command = ["tar", "--create", "--numeric-owner", "--sort=name", "--xattrs", *excludes]
    subprocess.run([*command, f"--file={output}", f"--directory={rootfs}", "."], check=True)


def build(
    cache: Path, suite: str = SUITE, packages: tuple[str, ...] = PACKAGES, mirror: str = ""
) -> Path:
    """The tar in the cache, made first where it is not there. Needs root and a package mirror."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / cache_name(suite, packages)
    with open(cache / "debian.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits for what the first one makes
        if not wanted.exists():
            _build(suite, packages, wanted, mirror)
    return wanted


def _build(suite: str, packages: tuple[str, ...], wanted: Path, mirror: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bq-debian-", dir=wanted.parent) as work:
        rootfs, packed = Path(work) / "rootfs", Path(work) / "packed.tar"
        _debootstrap(suite, packages, rootfs, mirror)
        _pack(rootfs, packed)
        packed.rename(wanted)


def _place(source: Path, output: Path) -> None:
    output.unlink(missing_ok=True)
    try:
        os.link(source, output)
    except OSError:  # another file system
        shutil.copyfile(source, output)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="debian_image.py")
    parser.add_argument("output", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--suite", default=SUITE)
    parser.add_argument("--package", action="append", default=[], help="beside the usual ones")
    parser.add_argument(
        "--mirror", default="", help="the package mirror; debootstrap's own if empty"
    )
    options = parser.parse_args(arguments)
    packages = (*PACKAGES, *options.package)
    _place(build(options.cache, options.suite, packages, options.mirror), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
