"""One shim for the containers of a group: joined, shared, left, and ended with the last one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from barque.shim import group
from tests.support import cgroups, rootfs
from tests.support.shim import Shim, Shims, eventually

pytestmark = pytest.mark.root
POD = {"io.kubernetes.cri.sandbox-id": "pod"}


def member(it: Shims, name: str, *arguments: str, **annotations: str) -> Shim:
    spec: dict[str, Any] = rootfs.config(*(arguments or ("sleep", "1000")))
    spec["annotations"] = annotations or POD
    return it.start(name, spec)


def test_members_share_a_shim(ours: Shims) -> None:
    one, two = member(ours, "one"), member(ours, "two")
    assert one.pid == two.pid
    assert one.address == two.address
    pids = [one.create(), two.create()]
    for shim in (one, two):
        shim.call("Start")
    assert [shim.call("State")["pid"] for shim in (one, two)] == pids
    # the first bundle goes, and the second container lives on
    one.call("Kill", signal=signal.SIGKILL)
    assert one.call("Wait")["exit_status"] == 137
    one.call("Delete")
    one.call("Shutdown")
    assert two.call("State")["pid"] == pids[1]
    assert os.readlink(f"/proc/{two.pid}/cwd") == str(two.bundle)
    two.exec("ex", "sh", "-c", "exit 4")
    two.call("Start", exec_id="ex")
    assert two.call("Wait", exec_id="ex")["exit_status"] == 4
    three = member(ours, "three", "sh", "-c", "exit 5")
    assert three.pid == two.pid
    three.create()
    three.call("Start")
    assert three.call("Wait")["exit_status"] == 5
    three.call("Delete")
    two.call("Kill", signal=signal.SIGKILL)
    two.call("Wait")
    ours.started.remove(one)
    ours.started.remove(three)
    two.end()  # asserts that the shim leaves


def test_groups_have_their_own(ours: Shims) -> None:
    one = member(ours, "one")
    other = member(ours, "other", **{"io.containerd.runc.v2.group": "another"})
    alone = ours.start("alone", rootfs.config("true"))
    assert len({one.pid, other.pid, alone.pid}) == 3
    for shim in (one, other, alone):
        shim.shutdown()


def test_one_that_is_expected_keeps_the_shim(ours: Shims) -> None:
    one, two = member(ours, "one", "true"), member(ours, "two", "true")
    one.create()
    one.call("Start")
    one.call("Wait")
    one.call("Delete")
    one.call("Shutdown")
    assert two.create() > 0
    two.call("Start")
    two.call("Wait")
    ours.started.remove(one)
    two.end()


def test_a_dead_shim_of_a_group_is_replaced(ours: Shims) -> None:
    one, two = member(ours, "one"), member(ours, "two")
    pids = [one.create(), two.create()]
    os.kill(one.pid, signal.SIGKILL)
    for name, shim in (("one", one), ("two", two)):
        answer = ours.invoke(shim.bundle, name, "delete")
        assert answer["code"] == 0, answer
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the dead are gone")
    three = member(ours, "three", "true")
    assert three.pid != one.pid
    three.create()
    three.call("Start")
    three.call("Wait")
    three.end()


def test_delete_of_a_member_spares_the_shim(ours: Shims) -> None:
    """As containerd does when it has given up a member's start."""
    one, two = member(ours, "one"), member(ours, "two")
    one.create()
    assert ours.invoke(two.bundle, "two", "delete")["code"] == 0
    assert os.path.exists(one.address.removeprefix("unix://"))
    one.call("Start")
    one.call("Kill", signal=9)
    one.call("Wait")
    two.create()
    two.call("Kill", signal=9)
    two.call("Wait")
    two.call("Delete")
    ours.started.remove(two)
    one.end()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"annotations": 7}', '{"annotations": {"io.kubernetes.cri.sandbox-id": 7}}',
     '{"annotations": {"other": "io.kubernetes.cri.sandbox-id"}}'],
)  # fmt: skip
def test_what_is_no_group(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert group.of_bundle(str(tmp_path)) == ""


def test_a_shim_in_a_cgroup_of_its_own(ours: Shims) -> None:
    """The option shim_cgroup: a cgroup that is in hierarchies of version 1 alone is one."""
    name = f"{ours.root.name}/shim"
    shim = ours.start("one", rootfs.config("true"))
    with pytest.raises(Exception, match="cannot join cgroup"):
        shim.create(shim_cgroup=f"/{name}")
    tops = [path.parent for path in cgroups.CGROUPS.glob("*/release_agent")]
    made = [path / name for path in tops or [cgroups.CGROUPS]]
    for path in made:
        path.mkdir(parents=True, exist_ok=True)
        if path.parts[4] == "cpuset":
            for field in ("cpuset.cpus", "cpuset.mems"):
                for place in (path.parent, path):
                    (place / field).write_text((place.parent / field).read_text())
    shim.create(shim_cgroup=f"/{name}")
    for line in Path(f"/proc/{shim.pid}/cgroup").read_text().splitlines():
        if line.split(":")[1] in ("pids", "memory"):
            assert line.endswith(f"/{name}")
    shim.call("Start")
    shim.call("Wait")
    shim.end()
    for path in made:
        path.rmdir()
