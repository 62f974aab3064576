"""Who makes containers' groups, and where."""

from pathlib import Path

import pytest

from barque import errors
from barque.daemon import cgroups

ID = "c" * 64


@pytest.fixture(params=[False, True], ids=["bare", "booted"])
def booted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A host where systemd runs with cgroups of version 2, or one where neither is so."""
    if request.param:
        (tmp_path / "unified").write_text("")
    monkeypatch.setattr(cgroups, "_BOOTED", str(tmp_path if request.param else tmp_path / "no"))
    monkeypatch.setattr(cgroups, "_UNIFIED", str(tmp_path / "unified"))
    return bool(request.param)


def test_systemd_where_it_runs(booted: bool) -> None:
    assert cgroups.driver(()) == ("systemd" if booted else "cgroupfs")
    assert cgroups.driver(["native.cgroupdriver=cgroupfs"]) == "cgroupfs"
    assert cgroups.version() == ("2" if booted else "1")
    wanted = ["native.cgroupdriver=systemd"]
    if booted:
        assert cgroups.driver(wanted) == "systemd"
    else:
        with pytest.raises(errors.InvalidArgument, match="needs a running systemd"):
            cgroups.driver(wanted)


@pytest.mark.parametrize(
    ("driver", "parent", "path"),
    [
        ("cgroupfs", "", f"/barque/{ID}"),
        ("cgroupfs", "/a/b/", f"/a/b/{ID}"),
        ("systemd", "", f"system.slice:barque:{ID}"),
        ("systemd", "a-b.slice", f"a-b.slice:barque:{ID}"),
        ("systemd", "-.slice", f"-.slice:barque:{ID}"),
    ],
)
def test_places(driver: str, parent: str, path: str) -> None:
    cgroups.check_parent(driver, parent)
    assert cgroups.path(driver, parent, ID) == path


@pytest.mark.parametrize("parent", ["/a", "a", "a/b.slice", "a--b.slice", ".slice", "a:b.slice"])
def test_a_parent_below_systemd_is_a_slice(parent: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="should be a valid slice"):
        cgroups.check_parent("systemd", parent)
