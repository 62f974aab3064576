"""Debian's source packages, from where this machine's apt takes its packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
TARGET = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)"
FETCH_TIMEOUT_S = 600


def fetch(package: str, cache: Path) -> Path:
    """The upstream tree of a source package, unpacked anew below `cache`; what was downloaded
    before is taken again."""
    downloads = cache / "downloads" / package
    if not any(downloads.glob("*.orig.tar.*")):
        downloads.mkdir(parents=True, exist_ok=True)
        options = _options(cache)
        _apt([*options, "update"], downloads)
        _apt([*options, "source", "--download-only", package], downloads)
    archive = next(path for path in downloads.glob("*.orig.tar.*") if path.suffix != ".asc")
    place = cache / "trees" / package
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xf", archive, "-C", place, "--no-same-owner"], check=True)
    return next(place.iterdir())


def _options(cache: Path) -> list[str]:
    """apt with source lists of its own: the machine's stay as they are."""
    base = cache / "apt"
    for name in ("lists/partial", "archives/partial"):
        (base / name).mkdir(parents=True, exist_ok=True)
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", TARGET, "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.removesuffix("|Debian") for line in told.stdout.splitlines()]
    (base / "sources.list").write_text("".join(f"{line}\n" for line in lines if "|" not in line))
    return [
        *("-o", f"Dir::Etc::sourcelist={base}/sources.list", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::lists={base}/lists", "-o", f"Dir::Cache::archives={base}/archives"),
        *("-o", "APT::Sandbox::User=root"),
    ]


def _apt(arguments: list[str], directory: Path) -> None:
    command = ["apt-get", "--quiet", "--quiet", *arguments]
    subprocess.run(command, check=True, cwd=directory, timeout=FETCH_TIMEOUT_S)
