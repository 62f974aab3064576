"""Members of config.json and words of commands that no other test has."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import VERSION_2, group, limit, quota, remove, weight
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
POINTS = (
    *("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"),
)


def test_domain_name(case: Case) -> None:
    if case.runtime.name == "runc":  # 1.1 does not know it
        return
    spec = case.configure("cat", "/proc/sys/kernel/domainname")
    spec["domainname"] = "example.org"
    assert case.run(spec=spec).check().out == "example.org\n"


@pytest.mark.runtimes("warm")  # runc 1.1 runs poststart at create
def test_hooks_at_all_points(case: Case) -> None:
    """Each gets the state on standard input, with the status of its moment."""
    (case.rootfs / "hooks").mkdir()
    (case.rootfs / "hooks").chmod(0o777)
    spec = case.configure("sleep", "1000")
    for point in POINTS:
        directory = "/hooks" if point == "startContainer" else str(case.rootfs / "hooks")
        script = f"cat > {directory}/{point}; echo {point} >> {directory}/order"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
        spec.setdefault("hooks", {})[point] = [hook]
    spec["annotations"] = {"org.example": "x"}
    case.started(spec=spec)
    pid = case.runtime.pid(case.id)
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    case.call("delete", case.id).check()
    place = case.rootfs / "hooks"
    order = (place / "order").read_text().split()
    assert order == list(POINTS)
    states = {point: json.loads((place / point).read_text()) for point in POINTS}
    for point, status in zip(
        POINTS, ("creating", "creating", "creating", "created", "running", "stopped"), strict=True
    ):
        state = states[point]
        assert (state["id"], state["status"]) == (case.id, status), point
        assert state["bundle"] == str(case.bundle)
        assert state["annotations"] == {"org.example": "x"}
        assert state["ociVersion"]
    assert states["createRuntime"]["pid"] == states["poststart"]["pid"] == pid
    assert states["startContainer"]["pid"] == 1  # as it is seen from there


@pytest.mark.parametrize("point", ["prestart", "createContainer", "startContainer", "poststop"])
@pytest.mark.runtimes("ours", "warm", "runc")
def test_what_hooks_inherit(case: Case, point: str) -> None:
    """A hook without `env` has the environment of who runs it: the runtime, or the container's
    process. An `env` that is empty is one."""
    for name in ("inherits", "empty"):
        (case.rootfs / name).touch()
        (case.rootfs / name).chmod(0o666)
    below = "" if point == "startContainer" else str(case.rootfs)
    spec = case.configure("true", env=["PATH=/bin:/made/up", "OF_THE=container"])
    hooks = [{"path": "/bin/sh", "args": ["sh", "-c", f"env > {below}/inherits"]}]
    hooks += [{"path": "/bin/sh", "args": ["sh", "-c", f"/bin/env > {below}/empty"], "env": []}]
    spec["hooks"] = {point: hooks}
    case.run(spec=spec).check()
    inherited = (case.rootfs / "inherits").read_text().splitlines()
    inside = point in ("createContainer", "startContainer")
    path = f"PATH={'/bin:/made/up' if inside else os.environ['PATH']}"
    assert ("OF_THE=container" in inherited) == inside
    assert path in inherited
    assert path not in (case.rootfs / "empty").read_text().splitlines()


@pytest.mark.runtimes("ours", "warm", "runc")
def test_where_a_hook_in_the_container_begins(case: Case) -> None:
    """createContainer: in the container's tree, which is not the root yet."""
    spec = case.configure("test", "-e", "/of-the-hook")
    spec["hooks"] = {"createContainer": [{"path": "/bin/touch", "args": ["touch", "of-the-hook"]}]}
    case.rootfs.chmod(0o777)
    case.run(spec=spec).check()


@pytest.mark.runtimes("ours", "warm", "runc")
def test_a_hook_that_a_signal_ends(case: Case) -> None:
    spec = case.configure("true")
    spec["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -TERM $$"]}]}
    result = case.run(spec=spec)
    assert result.code == 1
    assert "error running hook: signal: terminated" in result.err


@pytest.mark.parametrize("top", ["/dev", "/place"])
def test_what_is_mounted_below_a_read_only_mount(case: Case, top: str) -> None:
    """It becomes read-only when its nodes and the mount points of others are made."""
    spec = case.configure("sh", "-c", f"cat /proc/mounts; touch {top}/x")
    spec["mounts"] = [one for one in spec["mounts"] if one["destination"] != top]
    flags = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "ro", "mode=755"]}
    below = {**flags, "destination": f"{top}/below", "options": []}
    spec["mounts"].insert(1, {**flags, "destination": top})
    result = case.run(spec={**spec, "mounts": [*spec["mounts"], below]})
    mounts = {line.split()[1]: line.split()[3].split(",") for line in result.out.splitlines()}
    assert ("ro" in mounts[top], "rw" in mounts[f"{top}/below"]) == (True, True)
    assert "Read-only file system" in result.err


@pytest.mark.runtimes("ours")  # to runc there is no container before the end of create
def test_a_start_waits_for_create(case: Case) -> None:
    go = case.place / "go"
    os.mkfifo(go)
    spec = case.configure("touch", "/ran")
    case.rootfs.chmod(0o777)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {go}; cat {go}"]}
    case.write({**spec, "hooks": {"createRuntime": [hook]}})
    line = case.runtime.argv("create", "-b", str(case.bundle), case.id)
    create = subprocess.Popen(line, stdin=subprocess.DEVNULL)
    go.read_text()  # the container is about to be made
    assert case.runtime.status(case.id) == "creating"
    start = subprocess.Popen(case.runtime.argv("start", case.id))
    try:
        wait_for(lambda: start.poll() is not None or asleep_in_lock(start.pid))
    finally:
        go.write_text("")
        codes = (create.wait(60), start.wait(60))
    assert codes == (0, 0)
    case.runtime.wait_stopped(case.id)
    assert (case.rootfs / "ran").exists()


def asleep_in_lock(pid: int) -> bool:
    """Whether a process waits for a lock of a file: /proc/locks marks those that wait by `->`."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and line.split()[5] == str(pid) for line in lines)


def test_a_working_directory_is_made_below_a_read_only_root(case: Case) -> None:
    spec = case.configure("pwd", cwd="/not/there/yet")
    spec["root"]["readonly"] = True
    assert case.run(spec=spec).check().out == "/not/there/yet\n"


@pytest.mark.runtimes("warm")
@pytest.mark.parametrize("point", ["startContainer", "poststart", "poststop"])
def test_a_late_hook_that_fails(case: Case, point: str) -> None:
    spec = case.configure("sh", "-c", "echo ran; sleep 1000")
    spec["hooks"] = {point: [{"path": "/bin/false"}]}
    case.create(spec=spec).check()
    code = case.call("start", case.id).code
    if point == "startContainer":
        case.runtime.wait_stopped(case.id)
        return
    if point == "poststop":
        assert code == 0
    case.call("delete", "--force", case.id).check()
    assert case.call("state", case.id).code == 1


@pytest.mark.runtimes("warm")
def test_features_are_true(case: Case) -> None:
    """What features names is taken, and what is taken is named."""
    features = case.call("features").check().json
    linux = features["linux"]
    assert features["ociVersionMax"] == "1.3.0"
    assert linux["mountExtensions"]["idmap"]["enabled"]
    assert "SCMP_ACT_NOTIFY" in linux["seccomp"]["actions"]
    obeyed = features["potentiallyUnsafeConfigAnnotations"]
    assert obeyed == ["org.criu.config", "org.systemd.property."]
    assert set(linux["namespaces"]) == {
        *("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"),
    }
    skipped = {"remount", "idmap", "ridmap", "tmpcopyup", "mand", "nomand"}
    words = [word for word in features["mountOptions"] if word not in skipped]
    spec = case.configure("true")
    for number, word in enumerate(words):
        mount = {"destination": f"/m{number}", "type": "tmpfs", "source": "t", "options": [word]}
        if word in ("bind", "rbind") or word.startswith(("r", "x")):
            mount |= {"type": "bind", "source": "/tmp", "options": ["bind", word]}
        spec["mounts"].append(mount)
    case.run(spec=spec).check()


@pytest.mark.version_2
class TestUpdate:
    @pytest.mark.runtimes("warm", "runc")
    def test_every_flag(self, case: Case) -> None:
        case.started("sleep", "1000")
        flags = {
            "--cpu-period": "200000",
            "--cpu-quota": "100000",
            "--cpu-share": "333",
            "--cpuset-cpus": "0",
            "--cpuset-mems": "0",
            "--memory": "64m",
            "--memory-reservation": "33554432",
            "--pids-limit": "55",
        }
        case.call("update", *(word for flag in flags.items() for word in flag), case.id).check()
        if not VERSION_2:
            assert limit(case.id, "cpu.cfs_period_us") == "200000"
        assert limit(case.id, "cpu.cfs_quota_us") == quota(100000, 200000)
        assert limit(case.id, "cpu.shares") == weight(333)
        assert limit(case.id, "cpuset.cpus") == limit(case.id, "cpuset.mems") == "0"
        assert limit(case.id, "memory.limit_in_bytes") == str(64 << 20)
        assert limit(case.id, "memory.soft_limit_in_bytes") == str(32 << 20)
        assert limit(case.id, "pids.max") == "55"

    @pytest.mark.runtimes("warm", "runc")
    def test_devices_may_be_repeated(self, case: Case) -> None:
        """A CRI daemon sends all resources of the container's config again."""
        spec = case.configure("sleep", "1000")
        case.started(spec=spec)
        resources: dict[str, Any] = {**spec["linux"]["resources"], "pids": {"limit": 44}}
        file = case.place / "resources.json"
        file.write_text(json.dumps(resources))
        case.call("update", "--resources", str(file), case.id).check()
        assert limit(case.id, "pids.max") == "44"

    @pytest.mark.runtimes("warm")
    def test_other_devices(self, case: Case) -> None:
        case.started("sleep", "1000")
        file = case.place / "resources.json"
        file.write_text('{"devices": [{"allow": true, "access": "rwm"}]}')
        result = case.call("update", "--resources", str(file), case.id)
        assert result.code == 1
        assert "cannot be changed" in result.err

    @pytest.mark.runtimes("warm")
    @pytest.mark.parametrize(
        ("flag", "value"),
        [
            ("--memory", "1x"),
            ("--memory", "m"),
            ("--memory", "1..5m"),
            ("--memory", "9999999999p"),
            ("--cpu-share", "a"),
            ("--l3-cache-schema", "L3:0=f"),
        ],
    )
    def test_values_that_cannot_be(self, case: Case, flag: str, value: str) -> None:
        case.started("sleep", "1000")
        result = case.call("update", flag, value, case.id)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1
        assert "Error:" not in result.err


@pytest.mark.runtimes("warm", "runc")
def test_lists_leave_out_what_is_not_readable(case: Case) -> None:
    case.started("sleep", "1000")
    broken = case.runtime.root / "broken"
    broken.mkdir()
    (broken / "state.json").write_text("{")
    try:
        result = case.call("list", "--format", "json")
        assert result.code == 0
        assert case.id in result.out
    finally:
        (broken / "state.json").unlink()
        broken.rmdir()


def block_device() -> str:
    """major:minor of a whole disk; 0:0 where there is none."""
    disks = sorted(Path("/sys/block").glob("*/dev"))
    return disks[0].read_text().strip() if disks else "0:0"


MAJOR, MINOR = (int(number) for number in block_device().split(":"))
DEVICE = {"major": MAJOR, "minor": MINOR}


@pytest.mark.runtimes("warm", "runc")
@pytest.mark.parametrize(
    ("section", "members", "controller", "file", "value"),
    [
        ("cpu", {"shares": 700}, "cpu", "cpu.shares", "700"),
        ("cpu", {"quota": 50000, "period": 100000}, "cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", {"realtimeRuntime": 100, "realtimePeriod": 200000}, "cpu", "cpu.rt_runtime_us",
         "100"),
        ("cpu", {"mems": "0"}, "cpuset", "cpuset.mems", "0"),
        ("memory", {"reservation": 1 << 25}, "memory", "memory.soft_limit_in_bytes",
         str(1 << 25)),
        ("memory", {"swappiness": 7}, "memory", "memory.swappiness", "7"),
        ("memory", {"limit": 1 << 26, "disableOOMKiller": True}, "memory", "memory.oom_control",
         "oom_kill_disable 1"),
        ("memory", {"limit": -1}, "memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("pids", {"limit": -1}, "pids", "pids.max", "max"),
        ("blockIO", {"throttleReadBpsDevice": [{**DEVICE, "rate": 1 << 20}]}, "blkio",
         "blkio.throttle.read_bps_device", f"{MAJOR}:{MINOR} {1 << 20}"),
        ("blockIO", {"throttleWriteBpsDevice": [{**DEVICE, "rate": 1 << 21}]}, "blkio",
         "blkio.throttle.write_bps_device", f"{MAJOR}:{MINOR} {1 << 21}"),
        ("blockIO", {"throttleReadIOPSDevice": [{**DEVICE, "rate": 100}]}, "blkio",
         "blkio.throttle.read_iops_device", f"{MAJOR}:{MINOR} 100"),
        ("blockIO", {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 200}]}, "blkio",
         "blkio.throttle.write_iops_device", f"{MAJOR}:{MINOR} 200"),
    ],
)  # fmt: skip
def test_a_limit_of_version_1(
    case: Case, section: str, members: dict[str, Any], controller: str, file: str, value: str
) -> None:
    place = Path("/sys/fs/cgroup", controller)
    if not (place / file).exists() and not list(place.glob(f"*/{file}")):
        pytest.skip(f"this kernel has no {file}")
    if section == "blockIO" and not MAJOR:
        pytest.skip("no disk to limit")
    spec = case.configure("sleep", "1000")
    spec["linux"]["resources"][section] = members
    case.started(spec=spec)
    assert value in (place / case.id / file).read_text()


@pytest.mark.version_2
@pytest.mark.runtimes("warm")
@pytest.mark.parametrize(
    ("section", "members", "file", "value"),
    [
        ("cpu", {"quota": 50000, "burst": 10000}, "cpu.cfs_burst_us", "10000"),
        ("cpu", {"idle": 1}, "cpu.idle", "1"),
    ],
)
def test_a_limit_runc_1_1_does_not_know(
    case: Case, section: str, members: dict[str, Any], file: str, value: str
) -> None:
    spec = case.configure("sleep", "1000")
    spec["linux"]["resources"][section] = members
    case.started(spec=spec)
    assert limit(case.id, file) == value


@pytest.mark.runtimes("warm", "runc")
def test_a_shorter_period_where_the_quota_above_is_small(case: Case) -> None:
    """The new period with the old quota would be more than the group above has."""
    if VERSION_2:
        pytest.skip("version 2 takes both in one write")
    above = group("cpu", f"{case.id}-above")
    above.mkdir()
    try:
        (above / "cpu.cfs_quota_us").write_text("50000")
        spec = case.configure("sleep", "1000")
        spec["linux"]["cgroupsPath"] = f"/{case.id}-above/{case.id}"
        spec["linux"]["resources"]["cpu"] = {"period": 100000, "quota": 40000}
        case.started(spec=spec)
        assert case.call("update", "--cpu-quota", "60000", case.id).code == 1
        case.call("update", "--cpu-period", "10000", "--cpu-quota", "3000", case.id).check()
        names = ("cpu.cfs_period_us", "cpu.cfs_quota_us")
        assert [(above / case.id / name).read_text() for name in names] == ["10000\n", "3000\n"]
        case.call("delete", "--force", case.id).check()
    finally:
        remove(f"{case.id}-above")


@pytest.mark.runtimes("ours", "warm", "runc")
def test_a_frozen_cgroup_is_refused(case: Case) -> None:
    """A process that enters one would never say anything."""
    place = group("freezer", case.id)
    place.mkdir()
    state = place / ("cgroup.freeze" if VERSION_2 else "freezer.state")
    state.write_text("1" if VERSION_2 else "FROZEN")
    try:
        result = case.run("true")
        assert result.code == 1
        assert "container's cgroup unexpectedly frozen" in result.err
        assert place.exists()
    finally:
        state.write_text("0" if VERSION_2 else "THAWED")
        place.rmdir()


@pytest.mark.runtimes("warm")
@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("hugepageLimits", [{"pageSize": "2MB", "limit": 1}], "hugetlb"),
        ("network", {"classID": 5}, "net_cls"),
        ("network", {"priorities": [{"name": "lo", "priority": 1}]}, "net_prio"),
        ("rdma", {"mlx5": {"hcaHandles": 1}}, "rdma"),
        ("unified", {"memory.high": "1"}, "needs cgroup version 2"),
        ("memory", {"kernel": 1 << 26}, "memory.kernel is not supported"),
        ("blockIO", {"leafWeight": 10}, "leafWeight is not supported"),
    ],
)
def test_a_limit_without_its_controller(case: Case, section: str, value: Any, words: str) -> None:
    """Nothing is taken and then not kept: the property and its controller are named."""
    if VERSION_2:
        pytest.skip("version 2 has most of them, and its own words for the others")
    if Path("/sys/fs/cgroup", words).exists():
        pytest.skip(f"{words} is mounted")
    spec = case.configure("true")
    spec["linux"]["resources"][section] = value
    result = case.run(spec=spec)
    assert result.code == 1
    assert words in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.version_2
@pytest.mark.skipif(not VERSION_2, reason="version 1 has them")
@pytest.mark.runtimes("warm")
@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("network", {"classID": 5}),
        ("network", {"priorities": [{"name": "lo", "priority": 1}]}),
        ("cpu", {"realtimeRuntime": 100}),
        ("memory", {"swappiness": 7}),
        ("memory", {"disableOOMKiller": True}),
        ("blockIO", {"leafWeight": 10}),
    ],
)
def test_a_limit_of_version_1_alone(case: Case, section: str, value: Any) -> None:
    spec = case.configure("true")
    spec["linux"]["resources"][section] = value
    result = case.run(spec=spec)
    assert result.code == 1
    assert "version 1" in result.err
    assert len(result.err.splitlines()) == 1
