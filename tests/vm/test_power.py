"""The power goes while images are pulled, imported and committed, containers made and garbage
collected; when the machine has started again everything that a client was told is there and whole.

BARQUE_POWER_CUTS=5 cuts it five times, BARQUE_POWER_SEED at other moments.
"""

from __future__ import annotations

import io
import os
import random
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_peer import busybox_tar
from tests.support.our_registry import our_registry
from tests.support.vm import INSIDE, PROJECT, Machine
from tests.vm.power import IMAGES, data_of

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(900)]
CUTS = int(os.environ.get("BARQUE_POWER_CUTS", "1"))
TOLD = 6  # answers before a cut, about
LIMIT_S = 400
SEED = int(os.environ.get("BARQUE_POWER_SEED", "20261121"))


def archive_of(name: str) -> bytes:
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = len(data_of(name))
        archive.addfile(entry, io.BytesIO(data_of(name)))
    return buffer.getvalue()


@pytest.fixture
def things(tmp_path: Path) -> Iterator[Path]:
    """An empty disk, the base image and a registry that has `IMAGES`."""
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", tmp_path / "disk"], check=True)
    (tmp_path / "base.tar").write_bytes(archive_of("base"))
    with our_registry(root=tmp_path / "registry") as registry:
        for name in IMAGES:
            (tmp_path / "layer.tar").write_bytes(archive_of(name))
            registry.push(f"tarball:{tmp_path}/layer.tar", f"{name}:latest")
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def program(*words: str) -> str:
    python = shlex.quote(str(PROJECT / ".venv/bin/python"))
    where = shlex.quote(str(PROJECT))
    settings = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={where}:{where}/src"
    return f"cd {where} && {settings} {python} -m tests.vm.power {' '.join(words)}"


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def worked_until_cut(machine: Machine, things: Path, boot: int, dice: random.Random) -> None:
    acks, output = machine.share / "acks", machine.share / "work"
    if (things / "acks").exists():
        shutil.copy(things / "acks", acks)
    shutil.copy(things / "base.tar", machine.share)
    shutil.copytree(things / "registry", machine.share / "registry")
    before = lines(acks)
    command = program("work", f"{INSIDE}/acks", str(boot))
    machine.check(f"({command}; echo ended) >{INSIDE}/work 2>&1 </dev/null &")
    deadline = time.monotonic() + LIMIT_S
    wanted = before + TOLD + dice.randrange(6)
    while lines(acks) < wanted:
        said = output.read_text() if output.exists() else ""
        assert "ended" not in said, said
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
    time.sleep(dice.random() * 0.5)
    machine.cut_power()
    shutil.copy(acks, things / "acks")


def test_all_that_was_told_is_there_after_a_power_cut(things: Path) -> None:
    dice = random.Random(SEED)
    for boot in range(CUTS):
        with Machine(disks=(things / "disk",)) as machine:
            worked_until_cut(machine, things, boot, dice)
    with Machine(disks=(things / "disk",)) as machine:
        shutil.copy(things / "acks", machine.share)
        machine.check(program("verify", f"{INSIDE}/acks"), LIMIT_S)
