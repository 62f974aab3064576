"""A config without a mount namespace: the container is in the runtime's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from barque.runc.validate import TREES_OF_MOUNTS_SINCE
from tests.integration.runc.conftest import Case

RELEASE = tuple(int(word) for word in os.uname().release.split(".")[:2])
pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours", "warm")]
grown = pytest.mark.skipif(
    RELEASE < TREES_OF_MOUNTS_SINCE, reason="Linux 6.15 has trees of mounts that grow"
)


def shared(case: Case, *args: str) -> dict[str, Any]:
    spec = case.configure(*args)
    kinds = [one for one in spec["linux"]["namespaces"] if one["type"] != "mount"]
    spec["linux"]["namespaces"] = kinds
    return spec


def mounts_of(case: Case) -> list[str]:
    """What the host's mount namespace has of the container's."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(case.place) in line]


def test_older_kernels_are_told(case: Case) -> None:
    if RELEASE >= TREES_OF_MOUNTS_SINCE:
        pytest.skip("this kernel is new enough")
    result = case.run(spec=shared(case, "true"))
    assert (result.code, "takes Linux 6.15" in result.err) == (1, True)


@grown
def test_the_namespace_is_the_runtimes_and_the_host_sees_no_mount(case: Case) -> None:
    script = "ls /; readlink /proc/self/ns/mnt; ls /proc/1/comm /dev/pts/ptmx; sleep 1000"
    case.started(spec=shared(case, "sh", "-c", script))
    looks = "readlink /proc/self/ns/mnt; ls /; ls /proc/1/comm"
    out = case.call("exec", case.id, "sh", "-c", looks)
    said = out.check().out.split()
    assert said[0] == os.readlink("/proc/self/ns/mnt")
    assert {"bin", "proc", "dev", "/proc/1/comm"} <= set(said)
    assert "work" not in said
    assert not mounts_of(case)
    said = case.output.read_text().split()
    assert os.readlink("/proc/self/ns/mnt") in said
    assert {"/proc/1/comm", "/dev/pts/ptmx"} <= set(said)
    case.call("delete", "--force", case.id).check()
    assert not mounts_of(case)


@grown
def test_masks_binds_and_a_read_only_root(case: Case) -> None:
    (case.place / "given").mkdir()
    (case.place / "given/file").write_text("given")
    script = "cat /mnt/file; echo x >/mnt/new; ls /masked; cat /hidden; touch /x || touch /tmp/y"
    spec = shared(case, "sh", "-c", script)
    (case.rootfs / "masked").mkdir()
    (case.rootfs / "masked/secret").touch()
    (case.rootfs / "hidden").write_text("secret")
    (case.rootfs / "mnt").mkdir()
    spec["root"]["readonly"] = True
    spec["linux"]["maskedPaths"] = ["/masked", "/hidden"]
    source = str(case.place / "given")
    spec["mounts"] += [
        {"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]
    result = case.run(spec=spec).check()
    assert result.out == "given"
    assert result.err.count("Read-only file system") == 2
    assert not (case.rootfs / "x").exists()


@grown
@pytest.mark.runtimes("warm")
def test_exec_past_a_container_that_may_trace(case: Case) -> None:
    spec = shared(case, "sleep", "1000")
    for kind in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][kind] = ["CAP_SYS_PTRACE"]
    case.started(spec=spec)
    out = case.call("exec", "--cwd", "/usr", case.id, "sh", "-c", "pwd; ls /proc/self/fd").check()
    assert out.out.split() == ["/usr", "0", "1", "2", "3"]


@grown
@pytest.mark.runtimes("warm")
def test_a_failure_leaves_nothing(case: Case) -> None:
    spec = shared(case, "true")
    spec["mounts"].append({"destination": "/mnt", "type": "nofs", "source": "x"})
    assert case.run(spec=spec).code == 1
    assert not mounts_of(case)


@grown
@pytest.mark.runtimes("warm")
@pytest.mark.parametrize("change", ["user", "propagation"])
def test_what_takes_a_mount_namespace(case: Case, change: str) -> None:
    spec = shared(case, "true")
    if change == "user":
        spec["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        spec["linux"].update(uidMappings=mapping, gidMappings=mapping)
    else:
        spec["linux"]["rootfsPropagation"] = "rshared"
    result = case.run(spec=spec)
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert "mount namespace" in result.err or "MNT namespace" in result.err
