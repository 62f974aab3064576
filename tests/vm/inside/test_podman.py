"""`podman container checkpoint` and `restore`: with our runtime as with runc."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rootfs
from tests.support.runtimes import PYTHON, SOURCE, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/count; echo $i; sleep 0.2; done"
LIMIT_S = 240


class Podman:
    def __init__(self, place: Path, runtime: str) -> None:
        self.rootfs = rootfs.build(place / "rootfs")
        stores = ("--root", f"{place}/r", "--runroot", f"{place}/s", "--tmpdir", f"{place}/t")
        kinds = ("--cgroup-manager", "cgroupfs", "--events-backend", "none")
        self.command = ("podman", *stores, *kinds, "--runtime", runtime)

    def call(self, *arguments: str) -> str:
        argv = (*self.command, *arguments)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def counted(self) -> int:
        return int((self.rootfs / "count").read_text().strip() or 0)


@pytest.fixture(params=["ours", "runc"])
def podman(request: pytest.FixtureRequest) -> Iterator[Podman]:
    with rootfs.temporary() as place:
        launcher = place / "barque-runc"
        entry = SOURCE / "barque/__main__.py"
        launcher.write_text(f'#!/bin/sh\nexec {PYTHON} -I -S {entry} barque-runc "$@"\n')
        launcher.chmod(0o755)
        made = Podman(place, str(launcher) if request.param == "ours" else "runc")
        yield made
        made.call("rm", "--force", "--all", "--time", "0")
        for mounted in sorted(rootfs.mounts_below(place), reverse=True):  # its store
            subprocess.run(["umount", mounted], check=True, timeout=60)


def test_a_container_goes_on_where_podman_saved_it(podman: Podman) -> None:
    flags = ("--detach", "--name", "saved", "--network", "none", "--log-driver", "k8s-file")
    podman.call("run", *flags, "--rootfs", str(podman.rootfs), "sh", "-c", COUNT)
    wait_for(lambda: podman.counted() > 3)
    podman.call("container", "checkpoint", "saved")
    last = podman.counted()
    inspected = ("container", "inspect", "--format", "{{.State.Running}} {{.State.Checkpointed}}")
    assert podman.call(*inspected, "saved").split() == ["false", "true"]
    assert podman.counted() == last
    podman.call("container", "restore", "saved")
    wait_for(lambda: podman.counted() > last + 2)
    assert podman.call("exec", "saved", "echo", "inside") == "inside\n"
    told = [int(line) for line in podman.call("logs", "saved").split()]
    assert told == list(range(1, told[-1] + 1))
