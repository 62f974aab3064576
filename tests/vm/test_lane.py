"""The lane on pure cgroup version 2 with AppArmor, systemd or SELinux: each file of `inside` runs
there as one test.

The runtime's tests that differ with the version of cgroups run there on ours. `BARQUE_VM=all` runs
them on runc and crun, the runtime's whole integration tests, and what else takes long (an hour).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vm import INSIDE, PROJECT, Machine

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(1600)]
HERE = Path(__file__).parent
WITH_SYSTEMD = ("test_systemd.py", "test_systemd_user.py")
WITH_SELINUX = ("test_selinux.py", "test_engine_selinux.py")
ALL = os.environ.get("BARQUE_VM") == "all"
# What takes minutes: the whole suite, with the rest of this, is to take less than half an hour.
LONG = (
    *("test_checkpoint.py", "test_containerd.py", "test_engine_checkpoints.py"),
    *("test_engine_selinux.py",),
    *("test_podman.py", "test_shim.py", "test_snapshotters.py", "test_storage_devicemapper.py"),
)
LEFT_OUT = () if ALL else LONG
APART = {*WITH_SYSTEMD, *WITH_SELINUX, *LEFT_OUT}
FILES = sorted({path.name for path in (HERE / "inside").glob("test_*.py")} - APART)
OF_THE_RUNTIME = sorted((PROJECT / "tests/integration/runc").glob("test_*.py"))
LIMIT_S = 1500 if ALL else 540
QUIET = "-q -p no:cacheprovider --tb=short"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="module")
def machine_with_systemd() -> Iterator[Machine]:
    with Machine(systemd=True) as machine:
        yield machine


@pytest.fixture(scope="module")
def machine_with_selinux() -> Iterator[Machine]:
    with Machine(security="selinux") as machine:
        yield machine


def run(machine: Machine, arguments: str, limit_s: int, runtimes: str = "") -> None:
    interpreter = shlex.quote(str(PROJECT / ".venv/bin/python"))
    report = f"--junitxml={INSIDE}/report.xml"
    command = f"cd {shlex.quote(str(PROJECT))} && {interpreter} -m pytest {QUIET} {report}"
    settings = (
        f"export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(str(PROJECT / 'src'))}"
        f" BARQUE_VM={os.environ.get('BARQUE_VM', '')}"
        f" BARQUE_RUNTIMES={shlex.quote(runtimes)}"
    )
    machine.check(f"{settings}; {command} {arguments}", limit_s)


def test_the_kernel_is_what_the_lane_is_for(machine: Machine) -> None:
    words = machine.check("stat -f -c %T /sys/fs/cgroup; cat /sys/kernel/security/lsm")
    assert words.split()[0] == "cgroup2fs"
    assert "apparmor" in words


@pytest.mark.parametrize("file", FILES)
def test_inside(machine: Machine, file: str) -> None:
    run(machine, f"tests/vm/inside/{file}", LIMIT_S)


@pytest.mark.parametrize("file", WITH_SYSTEMD)
def test_inside_with_systemd(machine_with_systemd: Machine, file: str) -> None:
    run(machine_with_systemd, f"tests/vm/inside/{file}", LIMIT_S)


@pytest.mark.parametrize("file", [file for file in WITH_SELINUX if file not in LEFT_OUT])
def test_inside_with_selinux(machine_with_selinux: Machine, file: str) -> None:
    run(machine_with_selinux, f"tests/vm/inside/{file}", LIMIT_S)


def test_the_interpreters_file_is_put_away(machine: Machine) -> None:
    """The sealed executable needs what a kernel may be built without: Debian's is built with it."""
    run(machine, "tests/integration/linux/test_kernel_calls.py -k executable", LIMIT_S)


@pytest.mark.skipif(not ALL, reason="asked for by BARQUE_VM=all")
def test_what_differs_with_the_version(machine: Machine) -> None:
    """The runtime's tests marked `version_2`, on both references too."""
    run(machine, "tests/integration/runc -m version_2", LIMIT_S, "warm runc crun")


@pytest.mark.skipif(not ALL, reason="asked for by BARQUE_VM=all")
def test_links_that_other_kernels_lack(machine: Machine) -> None:
    """ipvlan, VLANs and dummy parents."""
    run(machine, "tests/integration/network/test_uplinks.py -k 'lacks or wire'", LIMIT_S)


@pytest.mark.skipif(not ALL, reason="asked for by BARQUE_VM=all")
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("file", OF_THE_RUNTIME, ids=lambda file: file.stem)
def test_the_whole_runtime(machine: Machine, file: Path) -> None:
    """All of its integration tests, on ours as a command too."""
    run(machine, f"tests/integration/runc/{file.name}", 2 * LIMIT_S)
