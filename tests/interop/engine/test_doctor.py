"""`barque doctor` on a whole stack: in order, in disorder, put right, and without a daemon."""

from __future__ import annotations

import subprocess

import pytest

from barque.linux.mount import mount
from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


def doctor(barque: Stack, *options: str) -> tuple[int, str]:
    done = barque.cli("doctor", *options, check=False)
    return done.returncode, done.stdout.decode()


def test_disorder_is_told_and_put_right(barque: Stack) -> None:
    assert doctor(barque, "--images") == (0, "all in order\n")
    barque.docker("run", "-d", "--name", "web", "-p", "80", "busybox", "sleep", "600")
    assert doctor(barque) == (0, "all in order\n")
    subprocess.run(["ip", "link", "set", barque.bridge, "down"], check=True)
    left = barque.root / "r/shm" / ("e" * 64)
    left.mkdir(parents=True)
    mount("tmpfs", str(left), "tmpfs")
    code, said = doctor(barque)
    assert code == 1
    assert f"mount {left}: it is of no container\n" in said
    code, said = doctor(barque, "--repair")
    assert (code, f"mount {left}: it is of no container (repaired)\n" in said) == (0, True)
    left.rmdir()
    assert doctor(barque) == (0, "all in order\n")
    shown = subprocess.run(["ip", "link", "show", barque.bridge], capture_output=True, check=True)
    assert b",UP" in shown.stdout
    barque.docker("rm", "-f", "web")


def test_without_a_daemon_the_machine_is_looked_at(barque: Stack) -> None:
    nobody = f"unix://{barque.root}/nobody.sock"
    done = barque.cli("-H", nobody, "doctor", check=False)
    assert done.returncode == 1
    assert b"Is the docker daemon running?" in done.stderr
    assert b"no overlay file system" not in done.stdout
