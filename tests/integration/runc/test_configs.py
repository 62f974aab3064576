"""Property: any config.json either runs or fails with one line, and nothing is left of it."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
     "tmpcopyup", "noatime", "nonsense", "=x", "remount", "sync", "gid=5"]
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
                 "linux.uidMappings", "linux.intelRdt", "linux.personality", "ociVersion"]
            ),
            "value": JUNK,
        }
    ),
    st.fixed_dictionaries(
        {"uid": st.integers(-2, 2**33), "gids": st.lists(st.integers(0, 2**33), max_size=3)}
    ),
)  # fmt: skip


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
    max_examples=150,
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
