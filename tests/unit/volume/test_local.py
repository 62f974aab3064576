from __future__ import annotations

from pathlib import Path

import pytest

from barque import errors
from barque.program import command
from barque.volume.local import LocalVolumes, check_name


@pytest.fixture
def volumes(tmp_path: Path) -> LocalVolumes:
    return LocalVolumes(tmp_path, command("barque-copyup"))


def test_a_volume_is_a_directory_made_once(volumes: LocalVolumes, tmp_path: Path) -> None:
    data = volumes.create("vol")
    assert data == tmp_path / "vol" / "_data"
    assert data.stat().st_mode & 0o777 == 0o755
    (data / "file").write_text("x")
    assert volumes.create("vol") == data
    assert (data / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["", "a", "..", "../x", "a/b", "-ab", ".removed-x", "a b", "ab\n"])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        check_name(name)


def test_removal_takes_everything_at_once(volumes: LocalVolumes, tmp_path: Path) -> None:
    data = volumes.create("vol")
    (data / "deep" / "er").mkdir(parents=True)
    (data / "link").symlink_to("/etc/passwd")
    removed = volumes.discard("vol")
    assert removed is not None
    assert not volumes.exists("vol")
    volumes.delete(removed)
    volumes.delete(removed)
    assert list(tmp_path.iterdir()) == []
    assert volumes.discard("vol") is None
    assert Path("/etc/passwd").exists()


def test_a_sweep_finishes_removals_and_keeps_what_has_content(
    volumes: LocalVolumes, tmp_path: Path
) -> None:
    (volumes.create("known") / "x").touch()
    volumes.create("begun")
    (volumes.create("stray") / "x").touch()
    (volumes.create("going") / "x").touch()
    volumes.discard("going")
    assert volumes.sweep(["known"]) == ["stray"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known", "stray"]


def test_sizes_count_links_once(volumes: LocalVolumes) -> None:
    data = volumes.create("vol")
    (data / "a").write_bytes(b"x" * 100_000)
    once = volumes.size_bytes("vol")
    (data / "b").hardlink_to(data / "a")
    (data / "c").symlink_to("/")
    assert volumes.size_bytes("vol") == once >= 100_000


def test_a_volume_that_went_while_sizes_were_asked_for_takes_nothing(
    volumes: LocalVolumes,
) -> None:
    volumes.create("brief")
    volumes.discard("brief")
    assert volumes.size_bytes("brief") == 0


def test_one_layer_is_copied_into_an_empty_volume(volumes: LocalVolumes, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "data" / "sub").mkdir(parents=True)
    (layer / "data" / "sub" / "file").write_text("content")
    (layer / "data").chmod(0o750)
    data = volumes.create("vol")
    assert volumes.populate("vol", [str(layer)], "/data")
    assert (data / "sub" / "file").read_text() == "content"
    assert data.stat().st_mode & 0o777 == 0o750
    assert not volumes.populate("vol", [str(layer)], "/data")


def test_an_image_without_the_directory_leaves_the_volume_empty(
    volumes: LocalVolumes, tmp_path: Path
) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "file").touch()
    volumes.create("vol")
    for path in ("/nothing", "/file", "/nothing/deeper"):
        assert not volumes.populate("vol", [str(tmp_path / "layer")], path)
    assert volumes.is_untouched("vol")


def test_a_copy_that_broke_off_is_begun_again(volumes: LocalVolumes, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "data").mkdir(parents=True)
    (layer / "data" / "whole").write_text("all of it")
    data = volumes.create("vol")
    (data.parent / "copying").touch()
    (data / "whole").write_text("all")
    (data / "half").touch()
    assert volumes.populate("vol", [str(layer)], "/data")
    assert [(p.name, p.read_text()) for p in data.iterdir()] == [("whole", "all of it")]


def test_a_path_that_leads_out_of_the_image_stays_inside(
    volumes: LocalVolumes, tmp_path: Path
) -> None:
    """CVE-2022-23648: an image's volume path with `..` or links copies nothing of the host."""
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    (layer / "etc" / "mine").touch()
    (layer / "out").symlink_to("/etc")
    (layer / "up").symlink_to("../../../../../../etc")
    for number, path in enumerate(("/../../../etc", "/out", "/up", "/etc/../../etc")):
        data = volumes.create(f"vol{number}")
        assert volumes.populate(f"vol{number}", [str(layer)], path)
        assert [entry.name for entry in data.iterdir()] == ["mine"]


def test_links_inside_are_copied_as_links(volumes: LocalVolumes, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "data").mkdir(parents=True)
    (layer / "data" / "passwd").symlink_to("/etc/passwd")
    (layer / "data" / "one").write_text("1")
    (layer / "data" / "two").hardlink_to(layer / "data" / "one")
    data = volumes.create("vol")
    assert volumes.populate("vol", [str(layer)], "/data")
    assert (data / "passwd").readlink() == Path("/etc/passwd")
    assert (data / "one").stat().st_ino == (data / "two").stat().st_ino


def test_a_tree_that_is_too_deep_is_refused(volumes: LocalVolumes, tmp_path: Path) -> None:
    deep = tmp_path / "layer" / "data"
    deep.mkdir(parents=True)
    for _ in range(320):
        deep = deep / "d"
        deep.mkdir()
    volumes.create("vol")
    with pytest.raises(errors.BarqueError, match="failed to populate volume vol: deeper than"):
        volumes.populate("vol", [str(tmp_path / "layer")], "/data")
    assert volumes.is_untouched("vol")
