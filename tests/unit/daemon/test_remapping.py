"""Who containers are on the machine, from its own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque import errors
from barque.daemon.remapping import Files, prepare_roots, resolve


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(*(tmp_path / name for name in ("passwd", "group", "subuid", "subgid")))
    found.passwd.write_text("root:x:0:0::/:/\nbuild:x:1001:1002::/:/\nlone:x:1003:1003::/:/\n")
    found.group.write_text("root:x:0:\nbuild:x:1002:\nstaff:x:50:\nlone:x:1003:\n")
    found.subuid.write_text("# ids\nbuild:200000:1000\nother:300000:65536\nbuild:400000:64536\n")
    found.subgid.write_text("1002:500000:65536\nstaff:600000:10\n")
    return found


@pytest.mark.parametrize("option", ["build", "build:build", "1001:1002", "build:1002"])
def test_a_user_has_the_ranges_of_its_name(files: Files, option: str) -> None:
    found = resolve(option, files)
    assert found is not None
    assert found.text == "build:build"
    assert found.maps.uids.lines() == "0 200000 1000\n1000 400000 64536\n"
    assert found.maps.gids.lines() == "0 500000 65536\n"
    assert found.root == (200000, 500000)
    assert found.directory == "200000.500000"


def test_a_group_of_its_own(files: Files) -> None:
    found = resolve("build:staff", files)
    assert found is not None
    assert found.maps.gids.lines() == "0 600000 10\n"


@pytest.mark.parametrize("option", ["root", "0", "root:root"])
def test_root_is_not_remapped(files: Files, option: str) -> None:
    assert resolve(option, files) is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("nobody", "no such user: nobody"),
        ("77", "no such user: 77"),
        ("build:nobody", "no such group: nobody"),
        ("lone", "no subordinate ids for 'lone'"),
        (":build", "invalid user/group"),
        ("build:", "invalid user/group"),
        ("a:b:c", "invalid user/group"),
    ],
)
def test_what_cannot_be_is_said(files: Files, option: str, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=words):
        resolve(option, files)


@pytest.mark.parametrize("line", ["build:1", "build:x:5", "build:1:-5", "build:1:2:3"])
def test_lines_that_are_none(files: Files, line: str) -> None:
    files.subuid.write_text(line + "\n")
    with pytest.raises(errors.InvalidArgument):
        resolve("build", files)


def test_ranges_that_overlap(files: Files) -> None:
    files.subuid.write_text("build:100:50\nbuild:120:50\n")
    with pytest.raises(errors.InvalidArgument, match="overlap"):
        resolve("build", files)


def test_the_way_to_the_root_is_open(files: Files, tmp_path: Path) -> None:
    remap = resolve("build", files)
    assert remap is not None
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    with pytest.raises(errors.InvalidArgument, match="o\\+x"):
        prepare_roots(shut / "root", remap)
