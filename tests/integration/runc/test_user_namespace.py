"""Containers in a user namespace of their own. config-linux.md, "User namespace mappings"."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.runtimes("ours", "warm", "runc")]
FIRST, COUNT = 200000, 65536


@pytest.fixture(autouse=True)
def _reachable(place: Path) -> None:
    """Root of the user namespace is nobody here: it must be able to walk to its root."""
    place.chmod(0o755)


def mapped(case: Case, *args: str, **process: Any) -> dict[str, Any]:
    spec = case.configure(*args, **process)
    spec["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": FIRST, "size": COUNT}]
    spec["linux"].update(uidMappings=mapping, gidMappings=mapping)
    for mount in spec["mounts"]:
        mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]
    return spec


@pytest.mark.version_2
def test_ids_inside_and_outside(case: Case) -> None:
    os.chown(case.rootfs, FIRST, FIRST)
    spec = mapped(case, "sh", "-c", "id -u; cat /proc/self/uid_map; touch /made; sleep 1000")
    case.started(spec=spec)
    wait_for((case.rootfs / "made").exists)
    pid = case.runtime.pid(case.id)
    assert f"Uid:\t{FIRST}" in Path(f"/proc/{pid}/status").read_text()
    out = case.call("exec", case.id, "sh", "-c", "id -u; ls -ln /made; echo x > /dev/null").check()
    assert out.out.split()[0] == "0"
    assert case.output.read_text().split() == ["0", "0", str(FIRST), str(COUNT)]
    assert os.stat(case.rootfs / "made").st_uid == FIRST


def test_another_user_and_capabilities_inside(case: Case) -> None:
    spec = mapped(case, "cat", "/proc/self/status", user={"uid": 5, "gid": 6})
    out = case.run(spec=spec).check().out
    assert "Uid:\t5\t5" in out
    assert "CapEff:\t0000000000000000" in out


def test_mount_is_not_the_hosts(case: Case) -> None:
    spec = mapped(case, "sh", "-c", "hostname; mount | grep -c /; ls -l /dev/null")
    names = ["CAP_SYS_ADMIN", "CAP_SETPCAP"]
    spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    result = case.run(spec=spec).check()
    assert result.out.startswith("busybox\n")


@pytest.mark.runtimes("ours", "warm")
def test_the_sealed_copy_seen_from_inside(case: Case) -> None:
    case.create(spec=mapped(case, "true")).check()
    pid = case.runtime.pid(case.id)
    assert os.stat(f"/proc/{pid}/fd").st_uid == 0
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:barque")


@pytest.mark.runtimes("ours", "warm")
def test_mappings_need_the_namespace(case: Case) -> None:
    spec = mapped(case, "true")
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "user"]
    assert case.run(spec=spec).code == 1
