"""What the configuration file asks of the server's process."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.containerds import configured

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


def snapshots(root: Path, name: str) -> str:
    """What ctr says of a snapshotter without snapshots; "" for nothing bad."""
    argv = ["ctr", "--address", str(root / "c.sock"), "snapshots", "--snapshotter", name, "ls"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stderr


def test_its_cgroup_and_when_the_kernel_ends_it() -> None:
    """The real one does the same, and leaves plain directories where no hierarchy is mounted."""
    word = f"bq{secrets.token_hex(4)}"
    try:
        with configured("ours", f'oom_score = 300\n[cgroup]\npath = "{word}"\n') as (_, pid):
            assert f"/{word}\n" in Path(f"/proc/{pid}/cgroup").read_text()
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "300\n"
    finally:
        assert cgroups.remove(word) == []


def test_its_log_in_json() -> None:
    with configured("ours", '[debug]\nformat = "json"\n') as (root, _):
        lines = (root / "log").read_text().splitlines()
    assert {"level", "msg", "time"} <= json.loads(lines[0]).keys()


def test_a_snapshotter_that_is_disabled() -> None:
    settings = 'disabled_plugins = ["io.containerd.snapshotter.v1.native", "cri"]\n'
    with configured("ours", settings) as (root, _):
        assert "native: it is disabled by the configuration" in snapshots(root, "native")
        assert snapshots(root, "overlayfs") == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            'required_plugins = ["io.containerd.grpc.v1.cri"]',
            "required plugin io.containerd.grpc.v1.cri is not there",
        ),
        (
            'disabled_plugins = ["io.containerd.content.v1.content"]',
            "plugin io.containerd.content.v1.content cannot be disabled",
        ),
    ],
)
def test_what_it_cannot_be_without(settings: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said), configured("ours", settings):
        pass
