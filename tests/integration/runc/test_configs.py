"""Property: any config.json either runs or fails with one line, and nothing is left of it."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barque.oci.runtime import HOOK_POINTS
from tests.integration.runc.conftest import Case
from tests.support import rootfs
from tests.support.runtimes import cgroups_of

pytestmark = [pytest.mark.root, pytest.mark.runtimes("warm")]

JUNK = st.one_of(
    st.sampled_from([None, True, False, "", "\0", "../../x", "/proc/self/fd/3", 0, -1, 1.5]),
    st.integers(-(2**70), 2**70),
    st.text(max_size=8),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), st.none(), max_size=2),
    st.floats(),
)
WORDS = st.sampled_from(
    ["ro", "rw", "rbind", "bind", "nosuid", "rprivate", "shared", "size=1m", "mode=700", "rro",
     "tmpcopyup", "noatime", "nonsense", "=x", "remount", "sync", "gid=5", "idmap", "ridmap"]
)  # fmt: skip
MOUNTS = st.fixed_dictionaries(
    {
        "destination": st.sampled_from(
            ["/m", "/a/b/c", "/proc/x", "/", "//", "/dev/../m", "relative", "/etc/passwd", "/proc"]
        ),
        "type": st.sampled_from(["tmpfs", "bind", "proc", "sysfs", "mqueue", "cgroup", "nofs", ""]),
        "source": st.sampled_from(["tmpfs", "/tmp", "/dev/null", "/nonexistent", "", "."]),
        "options": st.lists(WORDS, max_size=4),
    }
)
CHANGES = st.one_of(
    st.fixed_dictionaries({"mounts": st.lists(MOUNTS, max_size=3)}),
    st.fixed_dictionaries(
        {
            "path": st.sampled_from(
                ["process", "process.args", "process.env", "process.cwd", "process.user",
                 "process.user.uid", "process.user.additionalGids", "process.user.umask",
                 "process.capabilities", "process.capabilities.bounding", "process.rlimits",
                 "process.noNewPrivileges", "process.oomScoreAdj", "root", "root.path",
                 "root.readonly", "hostname", "domainname", "mounts", "hooks", "hooks.prestart",
                 "annotations", "linux", "linux.namespaces", "linux.devices", "linux.resources",
                 "linux.resources.memory", "linux.resources.devices", "linux.resources.cpu",
                 "linux.resources.pids", "linux.seccomp", "linux.sysctl", "linux.maskedPaths",
                 "linux.readonlyPaths", "linux.cgroupsPath", "linux.rootfsPropagation",
                 "linux.uidMappings", "linux.intelRdt", "linux.personality", "ociVersion",
                 "process.scheduler", "process.scheduler.policy", "process.ioPriority",
                 "process.ioPriority.class", "process.execCPUAffinity", "process.consoleSize",
                 "linux.timeOffsets", "linux.timeOffsets.boottime", "linux.netDevices",
                 "linux.netDevices.lo", "linux.memoryPolicy", "linux.memoryPolicy.nodes",
                 "linux.seccomp.syscalls", "linux.seccomp.listenerPath", "linux.mountLabel",
                 "linux.resources.unified", "linux.resources.hugepageLimits",
                 "linux.resources.rdma", "linux.resources.network", "linux.resources.blockIO"]
            ),
            "value": JUNK,
        }
    ),
    st.fixed_dictionaries(
        {"uid": st.integers(-2, 2**33), "gids": st.lists(st.integers(0, 2**33), max_size=3)}
    ),
)  # fmt: skip


# what is valid: any of it together
NAMESPACES = st.lists(
    st.sampled_from(["pid", "network", "ipc", "uts", "cgroup", "user", "time"]), unique=True
)
CAPABILITIES = st.lists(
    st.sampled_from(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_KILL", "CAP_SYS_PTRACE"]), unique=True
)
VALID = st.fixed_dictionaries(
    {
        "namespaces": NAMESPACES,
        "capabilities": st.dictionaries(
            st.sampled_from(["bounding", "effective", "permitted", "inheritable", "ambient"]),
            CAPABILITIES,
        ),
        "user": st.sampled_from([(0, 0), (1000, 1000), (65534, 5)]),
        "no_new_privs": st.booleans(),
        "seccomp": st.sampled_from([None, "SCMP_ACT_LOG", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"]),
        "mounts": st.lists(st.sampled_from(range(7)), unique=True),
        "readonly": st.booleans(),
        "masked": st.lists(st.sampled_from(["/proc/kcore", "/sys", "/etc", "/x", "/bin/sh"])),
        "umask": st.sampled_from([None, 0, 0o77]),
        "score": st.sampled_from([None, 0, 500]),
        "scheduler": st.sampled_from([None, {"policy": "SCHED_BATCH", "nice": 3}]),
        "ioPriority": st.sampled_from([None, {"class": "IOPRIO_CLASS_BE", "priority": 4}]),
        "execCPUAffinity": st.sampled_from([None, {"initial": "0", "final": "0-1"}]),
        "memoryPolicy": st.sampled_from([None, {"mode": "MPOL_INTERLEAVE", "nodes": "0"}]),
        "personality": st.sampled_from([None, {"domain": "LINUX32"}]),
        "intelRdt": st.sampled_from([*[None] * 8, {"closID": "bq", "schemata": ["L3:0=f"]}]),
        "netDevices": st.sampled_from([*[None] * 8, {"bqnosuch": {"name": "one"}}]),
        "offsets": st.sampled_from([None, {"boottime": {"secs": 5}, "monotonic": {"secs": -1}}]),
        "id_mapped": st.sampled_from([None, "idmap", "ridmap"]),
        "hooks": st.dictionaries(
            st.sampled_from(HOOK_POINTS),
            st.sampled_from([*["/bin/true"] * 8, "/bin/false", "/no/such"]),
        ),
        "propagation": st.sampled_from(["", "private", "rslave", "shared", "unbindable"]),
    }
)


def composed(spec: dict[str, Any], valid: dict[str, Any]) -> dict[str, Any]:
    """A config that asks for all of it."""
    process, linux = spec["process"], spec["linux"]
    process["capabilities"] = valid["capabilities"]
    process["user"] = {"uid": valid["user"][0], "gid": valid["user"][1]}
    process["noNewPrivileges"] = valid["no_new_privs"]
    if valid["score"] is not None:
        process["oomScoreAdj"] = valid["score"]
    for holder, names in (
        (process, ("scheduler", "ioPriority", "execCPUAffinity")),
        (linux, ("memoryPolicy", "personality", "intelRdt", "netDevices")),
    ):
        holder |= {name: valid[name] for name in names if valid[name] is not None}
    if valid["offsets"] and "time" in valid["namespaces"]:
        linux["timeOffsets"] = valid["offsets"]
    spec["hooks"] = {point: [{"path": path}] for point, path in valid["hooks"].items()}
    if valid["umask"] is not None:
        process["user"]["umask"] = valid["umask"]
    linux["namespaces"] = [{"type": kind} for kind in ("mount", *valid["namespaces"])]
    if "uts" not in valid["namespaces"]:
        del spec["hostname"]
    if "user" in valid["namespaces"]:
        mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        linux.update(uidMappings=mapping, gidMappings=mapping)
    if valid["seccomp"]:
        rule = {"names": ["mkdir", "getpid"], "action": valid["seccomp"]}
        linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    spec["mounts"] = [spec["mounts"][n] for n in sorted(valid["mounts"]) if n < 6]
    if valid["id_mapped"]:
        ids = [{"containerID": 0, "hostID": 300000, "size": 1000}]
        options = ["bind", valid["id_mapped"]]
        mount = {"destination": "/m", "type": "bind", "source": "/usr/share", "options": options}
        spec["mounts"].append({**mount, "uidMappings": ids, "gidMappings": ids})
    spec["root"]["readonly"] = valid["readonly"]
    linux["maskedPaths"] = valid["masked"]
    linux["rootfsPropagation"] = valid["propagation"]
    return spec


def assert_whole_or_nothing(case: Case, spec: dict[str, Any]) -> None:
    """It runs, or fails with one line, and nothing is left."""
    (case.bundle / "config.json").write_text(json.dumps(spec))
    result = case.runtime.call("run", "--bundle", str(case.bundle), case.id)
    if result.code:
        lines = [line for line in result.err.splitlines() if "level=warning" not in line]
        assert len(lines) == 1, result
        assert "Traceback" not in result.err
        assert "Error:" not in result.err, result
    assert not (case.runtime.root / case.id).exists()
    assert not cgroups_of(case.id)
    assert not rootfs.mounts_below(case.bundle)
    assert case.id not in Path("/proc/self/mountinfo").read_text()


@settings(
    max_examples=int(os.environ.get("BARQUE_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(valid=VALID)
def test_a_valid_config(case: Case, valid: dict[str, Any]) -> None:
    case.place.chmod(0o755)
    assert_whole_or_nothing(case, composed(case.configure("true"), valid))


def changed(spec: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    if "mounts" in change:
        spec["mounts"] += change["mounts"]
    elif "uid" in change:
        spec["process"]["user"] = {"uid": change["uid"], "gid": 0, "additionalGids": change["gids"]}
    else:
        *parents, name = change["path"].split(".")
        target = spec
        for parent in parents:
            target = target.setdefault(parent, {})
        target[name] = change["value"]
    return spec


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(change=CHANGES)
def test_a_changed_config(case: Case, change: dict[str, Any]) -> None:
    spec = changed(case.configure("true"), change)
    unreadable = any(isinstance(v, float) for v in change.values())  # NaN is not JSON
    (case.bundle / "config.json").write_text(json.dumps(spec))
    result = case.runtime.call("run", "--bundle", str(case.bundle), case.id)
    if result.code:
        lines = [line for line in result.err.splitlines() if "level=warning" not in line]
        assert len(lines) == 1 or unreadable, result
        assert "Traceback" not in result.err
        assert "Error:" not in result.err, result
    assert not (case.runtime.root / case.id).exists()
    assert not cgroups_of(case.id)
    assert not rootfs.mounts_below(case.bundle)
    assert case.id not in Path("/proc/self/mountinfo").read_text()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(raw=st.one_of(st.binary(max_size=64), st.text(max_size=64).map(str.encode)))
def test_a_file_that_is_no_config(case: Case, raw: bytes) -> None:
    (case.bundle / "config.json").write_bytes(raw)
    result = case.runtime.call("create", "--bundle", str(case.bundle), case.id)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "Traceback" not in result.err


def test_a_config_cut_short_at_every_byte(case: Case) -> None:
    whole = json.dumps(case.configure("true")).encode()
    for length in range(0, len(whole), 37):
        (case.bundle / "config.json").write_bytes(whole[:length])
        result = case.runtime.call("create", "--bundle", str(case.bundle), case.id)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1, result
    assert os.listdir(case.runtime.root) == [] if case.runtime.root.exists() else True
