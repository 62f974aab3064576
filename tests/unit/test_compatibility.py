"""The page of what is there is the code's, and the code answers what the page says."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import compatibility

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_is_up_to_date() -> None:
    assert compatibility.main(["--check"]) == 0


def test_what_everybody_uses_is_there() -> None:
    states = {f"{m} {path}": state for m, path, _, state in compatibility.operations()}
    assert len(states) == 108
    for operation in (
        "POST /containers/create",
        "GET /containers/{id}/attach/ws",
        "PUT /containers/{id}/archive",
        "GET /events",
        "GET /system/df",
        "HEAD /_ping",
    ):
        assert states[operation] == compatibility.YES
    assert states["GET /nodes"] == compatibility.SWARM
    assert states["POST /swarm/init"] == compatibility.NO


@pytest.mark.peer
def test_the_units_are_good(tmp_path: Path) -> None:
    """systemd-analyze(1), with a program in the place of ours, which is not installed here."""
    units = []
    for unit in sorted((ROOT / "packaging" / "systemd").iterdir()):
        text = unit.read_text().replace("/usr/bin/barqued", "/bin/true")
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    assert [unit.suffix for unit in units] == [".service", ".socket"]
    analyze = shutil.which("systemd-analyze")
    assert analyze, "install systemd"
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "barque" in line]
    assert (done.returncode, ours) == (0, [])
