"""The merged view of layers, without a mount. Hostile images must lead nowhere.

Attacks: CVE-2022-23648, CVE-2024-9676, CVE-2026-47262. Whiteouts need mknod: integration tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.containers.layers import layer_directories, read_file


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("upper", "middle", "lower")]
    for layer in made:
        (layer / "etc").mkdir(parents=True)
    return made


def read(layers: list[Path], path: str, limit: int = 1000) -> bytes | None:
    return read_file([str(layer) for layer in layers], path, limit)


def test_the_topmost_file_wins(layers: list[Path]) -> None:
    (layers[2] / "etc/passwd").write_text("lower")
    assert read(layers, "/etc/passwd") == b"lower"
    (layers[1] / "etc/passwd").write_text("middle")
    assert read(layers, "/etc/passwd") == b"middle"
    assert read(layers, "/etc/group") is None


def test_a_file_hides_the_directory_below(layers: list[Path]) -> None:
    (layers[2] / "opt").mkdir()
    (layers[2] / "opt/x").write_text("x")
    (layers[1] / "opt").write_text("a file")
    assert read(layers, "/opt/x") is None


def test_links_stay_inside(layers: list[Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host")
    (layers[0] / "etc/passwd").symlink_to(secret)
    assert read(layers, "/etc/passwd") is None
    (layers[0] / "etc/group").symlink_to("../../../../../../etc/shadow")
    assert read(layers, "/etc/group") is None
    (layers[2] / "usr").mkdir()
    (layers[2] / "usr/passwd").write_text("inside")
    (layers[1] / "etc/alias").symlink_to("/usr/passwd")
    assert read(layers, "/etc/alias") == b"inside"


def test_a_linked_directory(layers: list[Path]) -> None:
    (layers[2] / "real").mkdir()
    (layers[2] / "real/passwd").write_text("real")
    (layers[1] / "short").symlink_to("real")
    assert read(layers, "/short/passwd") == b"real"
    assert read(layers, "/short/../short/./passwd") == b"real"


def test_loops_end(layers: list[Path]) -> None:
    (layers[0] / "a").symlink_to("b")
    (layers[0] / "b").symlink_to("a")
    with pytest.raises(errors.InvalidArgument, match="too many levels"):
        read(layers, "/a")


def test_size_is_bounded_even_when_sparse(layers: list[Path]) -> None:
    with (layers[0] / "etc/passwd").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(errors.ResourceExhausted, match="larger than"):
        read(layers, "/etc/passwd", 4 << 20)


def test_what_is_no_file_is_none(layers: list[Path]) -> None:
    os.mkfifo(layers[0] / "etc/passwd")
    assert read(layers, "/etc/passwd") is None
    assert read(layers, "/etc") is None
    assert read(layers, "/nothing/here") is None


def test_directories_of_a_snapshot() -> None:
    overlay = ("overlay", "overlay", ("index=off", "upperdir=/u", "workdir=/w", "lowerdir=/a:/b"))
    assert layer_directories([overlay]) == ["/u", "/a", "/b"]
    assert layer_directories([("bind", "/s", ("rw", "rbind"))]) == ["/s"]
    with pytest.raises(errors.Unsupported, match="btrfs"):
        layer_directories([("btrfs", "/dev/x", ())])
