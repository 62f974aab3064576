"""cgroup version 2 alone: membership, devices by BPF, freezing, killing, limits."""

from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import UNIFIED

pytestmark = [pytest.mark.root, pytest.mark.runtimes("unified")]


def test_run_and_exec(case: Case) -> None:
    case.started("sh", "-c", "cat /proc/self/cgroup; sleep 1000")
    pid = case.runtime.pid(case.id)
    assert f"0::/{case.id}\n" in Path(f"/proc/{pid}/cgroup").read_text()
    assert "0::/\n" in case.output.read_text()
    case.call("exec", case.id, "true").check()


def test_devices_are_denied(case: Case) -> None:
    script = "mknod /tmp/k c 1 11 && head -c 1 /tmp/k; head -c 1 /dev/zero | wc -c"
    for rules in ([], [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]):
        spec = case.configure("sh", "-c", f"{script}; rm /tmp/k")
        spec["linux"]["resources"]["devices"] = rules
        names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]
        sets = dict.fromkeys(("bounding", "effective", "permitted"), names)
        spec["process"]["capabilities"] = sets
        result = case.run(spec=spec)
        assert ("Operation not permitted" in result.err) == (not rules), result
        assert result.out.endswith("1\n")


def test_everything_is_allowed(case: Case) -> None:
    spec = case.configure("sh", "-c", "mknod /tmp/k c 1 11 && head -c 1 /tmp/k >/dev/null")
    deny = [{"allow": False, "type": "c", "major": 1, "minor": n, "access": "rwm"} for n in (4, 5)]
    spec["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}, *deny]
    spec["process"]["args"][2] += "; head -c 1 /dev/zero; mknod /tmp/port c 1 4"
    names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]
    spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    result = case.run(spec=spec)
    assert result.err.count("Operation not permitted") == 1
    assert "/tmp/port" in result.err  # /dev/zero is every container's


def test_pause_resume_kill_delete(case: Case) -> None:
    case.started("sh", "-c", "sleep 1001 & sleep 1000")
    case.call("pause", case.id).check()
    assert case.runtime.status(case.id) == "paused"
    assert "1" in Path(UNIFIED, case.id, "cgroup.freeze").read_text()
    case.call("resume", case.id).check()
    assert case.runtime.status(case.id) == "running"
    case.call("kill", "--all", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    case.call("delete", case.id).check()
    assert not Path(UNIFIED, case.id).exists()


def test_a_limit_without_its_controller_is_an_error(case: Case) -> None:
    if "memory" in Path(UNIFIED, "cgroup.controllers").read_text():
        pytest.skip("version 2 has the memory controller")
    spec = case.configure("true")
    spec["linux"]["resources"]["memory"] = {"limit": 1 << 26}
    result = case.run(spec=spec)
    assert result.code == 1
    assert "memory.max" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_cgroup_mount_shows_the_containers_own(case: Case) -> None:
    spec = case.configure("sh", "-c", "cat /sys/fs/cgroup/cgroup.procs; ls /sys/fs/cgroup")
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    spec["mounts"].append({**mount, "options": ["nosuid", "noexec", "nodev", "ro"]})
    result = case.run(spec=spec).check()
    assert result.out.split()[0] == "1"
    assert case.id not in result.out


def test_huge_pages(case: Case) -> None:
    """Pages in use and pages reserved."""
    sizes = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
    if "hugetlb" not in Path(UNIFIED, "cgroup.controllers").read_text() or not sizes.exists():
        pytest.skip("version 2 has no hugetlb controller with pages of 2 MB")
    spec = case.configure("sleep", "1000")
    spec["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 << 20}]
    case.started(spec=spec)
    for file in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        assert Path(UNIFIED, case.id, file).read_text() == f"{4 << 20}\n"


def test_a_file_of_version_2_by_its_name(case: Case) -> None:
    if "hugetlb" not in Path(UNIFIED, "cgroup.controllers").read_text():
        pytest.skip("version 2 has no hugetlb controller")
    spec = case.configure("sleep", "1000")
    spec["linux"]["resources"]["unified"] = {"hugetlb.2MB.max": "6291456", "cgroup.max.depth": "3"}
    case.started(spec=spec)
    assert Path(UNIFIED, case.id, "hugetlb.2MB.max").read_text() == "6291456\n"
    assert Path(UNIFIED, case.id, "cgroup.max.depth").read_text() == "3\n"
