"""config.json as values: what is taken, what is refused and how it is named."""

import copy
from typing import Any

import pytest

from barque.errors import InvalidArgument
from barque.oci.fields import Fields
from barque.oci.runtime import parse_process, parse_spec
from tests.support import rootfs


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(rootfs.config("sh", "-c", "true"))
    *parents, name = path.split(".")
    target = spec
    for parent in parents:
        target = target.setdefault(parent, {})
    target[name] = value
    return spec


def test_an_ordinary_config() -> None:
    spec = parse_spec(rootfs.config("sh", "-c", "true"))
    assert spec.process.args == ("sh", "-c", "true")
    assert spec.root_path == "rootfs"
    assert spec.mounts[1].options == ("nosuid", "strictatime", "mode=755", "size=65536k")
    assert set(spec.linux.namespaces) == {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    assert spec.process.rlimits == (("RLIMIT_NOFILE", 1024, 1024),)


def test_null_is_absence_and_unknown_is_ignored() -> None:
    for path in ("process.user", "hooks", "annotations", "linux.devices", "mounts", "x.unknown"):
        parse_spec(changed(path, None))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("process.user.uid", 1 << 32, "process.user.uid: 4294967296 is not in the range"),
        ("process.user.uid", (1 << 32) - 1, "process.user.uid"),
        ("process.user.uid", -1, "process.user.uid: -1"),
        ("process.user.uid", "0", "process.user.uid is not an integer"),
        ("process.user.uid", True, "process.user.uid is not an integer"),
        ("process.user.uid", 1.0, "process.user.uid is not an integer"),
        ("process.user.additionalGids", [1, 1 << 33], "process.user.additionalGids"),
        ("process.args", "sh", "process.args is not an array"),
        ("process.args", [1], "process.args is not a string"),
        ("process.args", ["a\0b"], "NUL"),
        ("process.env", ["\ud800"], "surrogate"),
        ("process.noNewPrivileges", 1, "process.noNewPrivileges is not a boolean"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
        ("process.consoleSize", {"height": 70000}, "process.consoleSize.height"),
        ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 1}], "process.rlimits[0].hard"),
        ("process", None, "process is missing"),
        ("root.path", "", "root.path is missing"),
        ("mounts", [{"type": "tmpfs"}], "mounts[0].destination is missing"),
        ("linux.namespaces", [{"type": "foo"}], 'namespace {"foo" ""} does not exist'),
        ("linux.namespaces", [{"type": "pid"}] * 2, 'duplicated ns {"pid" ""}'),
        ("linux.devices", [{"type": "q", "path": "/x"}], 'invalid device type "q"'),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 0}], "linux.uidMappings[0].size"),
        ("hooks", {"prestart": [{"path": "x"}]}, "not an absolute path"),
        ("hooks", {"prestart": [{"path": "/x", "timeout": 0}]}, "timeout"),
        ("annotations", {"a": 1}, "annotations.a is not a string"),
        ("linux.resources", [], "linux.resources is not an object"),
        ("linux.timeOffsets", {"realtime": {"secs": 1}}, "is not a clock with an offset"),
        ("linux.timeOffsets", {"boottime": {"secs": 1 << 64}}, "not in the range"),
        ("linux.timeOffsets", {"boottime": {"nanosecs": 10**9}}, "not in the range"),
        ("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "'X' is unknown"),
        ("linux.netDevices", {"eth0": {"name": 1}}, "linux.netDevices.eth0.name"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec(changed(path, value))
    assert words in str(caught.value)


def test_a_document_that_is_no_object() -> None:
    value: Any
    for value in (None, [], "x", 1):
        with pytest.raises(InvalidArgument):
            parse_spec(value)


def test_defaults_of_a_process() -> None:
    process = parse_process(Fields({"args": ["x"], "cwd": "/"}, "process"))
    assert (process.uid, process.gid, process.umask, process.capabilities) == (0, 0, None, None)
    assert process.scheduler is process.io_priority is process.exec_affinity is None


def test_hooks_and_devices() -> None:
    spec = parse_spec(
        changed("hooks", {"poststop": [{"path": "/x", "args": ["x", "y"], "timeout": 3}]})
    )
    (hook,) = spec.hooks["poststop"]
    assert (hook.args, hook.timeout_s) == (("x", "y"), 3)
    device = {"type": "c", "path": "/dev/x", "major": 1, "minor": 2, "fileMode": 0o600}
    (parsed,) = parse_spec(changed("linux.devices", [device])).linux.devices
    assert (parsed.major, parsed.minor, parsed.mode, parsed.uid) == (1, 2, 0o600, 0)
