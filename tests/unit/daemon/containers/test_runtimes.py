"""What `--runtime` may name."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.containers import runtimes
from barque.daemon.containers.host import OUR_SHIM, Runtime

SCRIPTS = Path("/s")


def parse(value: Any, systemd_cgroup: bool = False) -> Runtime:
    return runtimes.parse("it", value, SCRIPTS, systemd_cgroup=systemd_cgroup)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"path": "/bin/x"}, Runtime(binary="/bin/x")),
        ({"path": "x", "runtimeArgs": [], "options": {}}, Runtime(binary="x")),
        ({"path": "x", "args": []}, Runtime(binary="x")),
        ({"runtimeType": "io.containerd.kata.v2"}, Runtime(type="io.containerd.kata.v2")),
        (
            {
                "runtimeType": runtimes.RUNC_SHIM,
                "options": {"BinaryName": "/b", "Root": "/r", "NoPivotRoot": True},
            },
            Runtime(type=runtimes.RUNC_SHIM, binary="/b", root="/r", no_pivot_root=True),
        ),
        ({"runtimeType": OUR_SHIM}, Runtime()),
    ],
)
def test_entries(value: Any, expected: Runtime) -> None:
    assert parse(value) == expected


def test_the_cgroup_driver_is_everyones_but_an_unknown_shims() -> None:
    assert parse({"path": "x"}, systemd_cgroup=True).systemd_cgroup
    assert parse({"runtimeType": runtimes.RUNC_SHIM}, systemd_cgroup=True).systemd_cgroup
    assert not parse({"runtimeType": "io.containerd.kata.v2"}, systemd_cgroup=True).systemd_cgroup


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/bin/x", "expected an object"),
        ({}, "either a path or a runtimeType"),
        ({"path": "x", "runtimeType": runtimes.RUNC_SHIM}, "either a path or a runtimeType"),
        ({"path": 1}, "either a path or a runtimeType"),
        ({"path": "x", "args": ["a"]}, "unknown: args"),
        ({"path": "x", "wat": 1}, "unknown: wat"),
        ({"path": "x", "runtimeArgs": "a"}, "expected a list of strings"),
        ({"path": "x", "runtimeArgs": [1]}, "expected a list of strings"),
        ({"path": "x", "options": {"Root": "/"}}, "options cannot be used with a path"),
        ({"runtimeType": runtimes.RUNC_SHIM, "runtimeArgs": ["a"]}, "cannot be used with a runt"),
        ({"runtimeType": "runc"}, "is not like io.containerd.runc.v2"),
        ({"runtimeType": runtimes.RUNC_SHIM, "options": {"Wat": 1}}, "Wat is not there for"),
        ({"runtimeType": runtimes.RUNC_SHIM, "options": {"Root": 1}}, "Root: expected a str"),
        ({"runtimeType": runtimes.RUNC_SHIM, "options": []}, None),
        ({"runtimeType": runtimes.RUNC_SHIM, "options": [1]}, "expected an object"),
        ({"runtimeType": "io.containerd.kata.v2", "options": {"Root": "/"}}, "is not there for"),
    ],
)
def test_bad_entries_are_named(value: Any, said: str | None) -> None:
    if said is None:  # an empty one says nothing
        parse(value)
        return
    with pytest.raises(errors.InvalidArgument, match=f"runtimes: it: .*{said}"):
        parse(value)


def test_a_script_adds_the_arguments_as_they_are(tmp_path: Path) -> None:
    value = {"path": "/bin/echo", "runtimeArgs": ["a b", "$HOME", "it's"]}
    runtimes.write_scripts(tmp_path, {"x": value, "y": {"path": "/bin/true"}})
    (script,) = tmp_path.iterdir()
    assert runtimes.parse("x", value, tmp_path, systemd_cgroup=False).binary == str(script)
    said = subprocess.run([str(script), "c d"], capture_output=True, text=True, check=True).stdout
    assert said == "a b $HOME it's c d\n"


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "containerd-shim-some-v3"
    shim.write_text("#!/bin/sh\n")
    shim.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    configured = {"x": Runtime(binary="/x")}
    assert runtimes.find(configured, "x").binary == "/x"
    assert runtimes.find(configured, OUR_SHIM) == Runtime()
    assert runtimes.find(configured, "io.containerd.some.v3").foreign
    for name in ("y", "io.containerd.some.v4", "io.containerd../../x.v1", "/x"):
        with pytest.raises(errors.InvalidArgument, match="unknown or invalid runtime name"):
            runtimes.find(configured, name)
