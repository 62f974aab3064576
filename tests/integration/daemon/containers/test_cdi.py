"""CDI devices: what a file of the host describes is in the container; the rest is refused."""

import json
from pathlib import Path

import pytest

from tests.support.barque import stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


def test_a_device_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("of the vendor")
    specs = tmp_path / "cdi"
    specs.mkdir()
    described = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["KIND=yes"], "additionalGids": [4242]},
        "devices": [
            {
                "name": "0",
                "containerEdits": {
                    "env": ["DEVICE=zero"],
                    "deviceNodes": [{"path": "/dev/vendor0", "hostPath": "/dev/full"}],
                    "mounts": [{"hostPath": f"{tmp_path}/shared", "containerPath": "/vendor"}],
                },
            }
        ],
    }
    (specs / "vendor.json").write_text(json.dumps(described))
    (specs / "broken.json").write_text("{")
    with stack("--cdi-spec-dir", str(specs)) as barque:
        info = json.loads(barque.docker("info", "--format", "json").stdout)
        assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": "vendor.com/gpu=0"}]
        script = "echo $KIND $DEVICE; id -G; cat /vendor/file; echo; echo x >/dev/vendor0"
        for flag in ("--device=vendor.com/gpu=0", "--gpus=all", "--gpus=1"):
            run = ("run", "--rm", "--network", "none", flag, "busybox", "sh", "-c", script)
            done = barque.docker(*run, check=False)
            lines = done.stdout.decode().splitlines()
            assert lines == ["yes zero", "0 4242", "of the vendor"], done.stderr
            assert b"No space left on device" in done.stderr  # it is /dev/full
        for flag, said in (
            ("--device=vendor.com/gpu=7", "unresolvable CDI devices vendor.com/gpu=7"),
            ("--device=other.com/class=1", "unresolvable CDI devices other.com/class=1"),
            ("--gpus=2", "unresolvable CDI devices vendor.com/gpu=1"),
        ):
            done = barque.docker("run", "--rm", flag, "busybox", "true", check=False)
            assert done.returncode == 125
            assert said in done.stderr.decode()
        assert barque.docker("ps", "-aq").stdout == b""


SPEC = """\
---
cdiVersion: "0.5.0"
kind: vendor.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/vendor0
              hostPath: /dev/full
    - name: all
      containerEdits: {env: [DEVICE=all]}
containerEdits:
    env:
        - KIND=void
    mounts: []
"""


def test_a_device_that_yaml_describes(tmp_path: Path) -> None:
    """As the tools of vendors write it."""
    (tmp_path / "vendor.yaml").write_text(SPEC)
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    (tmp_path / "other.yaml").write_text("- 1")
    with stack("--cdi-spec-dir", str(tmp_path)) as barque:
        run = ("run", "--rm", "--network", "none", "--gpus=all", "busybox", "sh", "-c")
        assert barque.docker(*run, "echo $KIND $DEVICE").stdout == b"void all\n"
        device = ("--device=vendor.com/gpu=0", "busybox", "test", "-c", "/dev/vendor0")
        barque.docker("run", "--rm", *device)


def test_no_device_at_all(tmp_path: Path) -> None:
    with stack("--cdi-spec-dir", str(tmp_path)) as barque:
        done = barque.docker("run", "--rm", "--gpus=all", "busybox", "true", check=False)
        assert done.returncode == 125
        assert (
            'could not select device driver "" with capabilities: [[gpu]]' in done.stderr.decode()
        )
