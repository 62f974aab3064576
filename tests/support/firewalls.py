"""Debian's ufw and firewalld, each on a machine of a test's own (see netns_host.isolated)."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barque.linux.mount import MS_BIND, mount
from tests.support.netns_host import attempt, run

READY_S = 60.0
POLL_S = 0.1


def _private(root: Path, *directories: str) -> None:
    """Copies of directories of the host, in their places for this test alone."""
    for number, directory in enumerate(directories):
        copy = root / f"private{number}"
        shutil.copytree(directory, copy, symlinks=True)
        mount(str(copy), directory, flags=MS_BIND)


def ufw(*arguments: str) -> str:
    return run("ufw", *arguments)


@contextmanager
def ufw_enabled(root: Path) -> Iterator[None]:
    """With ufw's defaults: what comes in or is routed is denied."""
    _private(root, "/etc/ufw", "/etc/default")
    ufw("--force", "enable")
    try:
        yield
    finally:
        ufw("disable")


def firewall_cmd(*arguments: str) -> str:
    return run("firewall-cmd", *arguments).strip()


@contextmanager
def firewalld_running(root: Path) -> Iterator[None]:
    """On a bus of its own, with its defaults: everything is in the zone `public`."""
    _private(root, "/etc/firewalld")
    mount("tmpfs", "/run", "tmpfs")
    for name in ("dbus", "firewalld"):
        Path("/run", name).mkdir()
    bus = subprocess.Popen(["dbus-daemon", "--system", "--nofork", "--nopidfile"])
    log = (root / "firewalld.log").open("w")
    server = subprocess.Popen(
        ["firewalld", "--nofork", "--nopid"], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + READY_S
        while attempt("firewall-cmd", "--state").returncode:
            assert time.monotonic() < deadline, (root / "firewalld.log").read_text()
            time.sleep(POLL_S)
        yield
    finally:
        for process in (server, bus):
            process.kill()
            process.wait()
        log.close()
