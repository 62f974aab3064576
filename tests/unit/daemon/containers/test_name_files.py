from __future__ import annotations

from pathlib import Path

import pytest

from barque.daemon.containers.name_files import MAX_BYTES, follow
from barque.daemon.networks.texts import NameFiles

ONE = NameFiles(("10.1.0.2\tme",), "nameserver 192.0.2.1\n")
TWO = NameFiles(("10.1.0.2\tme", "10.2.0.2\tme", "fd00::2\tme"), "nameserver 127.0.0.11\n")
HEAD = "127.0.0.1\tlocalhost\n"


def files(directory: Path, hosts: str, resolv_conf: str) -> None:
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text(resolv_conf)


def test_lines_come_and_go_and_the_containers_own_stay(tmp_path: Path) -> None:
    files(tmp_path, f"{HEAD}10.1.0.2\tme\n# mine", ONE.resolv_conf)
    inode = (tmp_path / "hosts").stat().st_ino
    follow(tmp_path, ONE, TWO)
    assert (tmp_path / "hosts").read_text() == (
        f"{HEAD}10.1.0.2\tme\n# mine\n10.2.0.2\tme\nfd00::2\tme\n"
    )
    assert (tmp_path / "resolv.conf").read_text() == TWO.resolv_conf
    follow(tmp_path, TWO, ONE)
    assert (tmp_path / "hosts").read_text() == f"{HEAD}10.1.0.2\tme\n# mine\n"
    assert (tmp_path / "resolv.conf").read_text() == ONE.resolv_conf
    assert (tmp_path / "hosts").stat().st_ino == inode


def test_a_resolv_conf_of_the_containers_own_stays(tmp_path: Path) -> None:
    files(tmp_path, HEAD, "nameserver 192.0.2.99\n")
    follow(tmp_path, ONE, TWO)
    assert (tmp_path / "resolv.conf").read_text() == "nameserver 192.0.2.99\n"


@pytest.mark.parametrize("content", [b"\xff\0" * 10, b"x" * (MAX_BYTES + 1)])
def test_whatever_the_container_wrote_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hosts").write_bytes(content)
    follow(tmp_path, TWO, ONE)
    assert (tmp_path / "hosts").read_bytes() == content


def test_files_that_are_gone_stay_gone_and_links_are_not_followed(tmp_path: Path) -> None:
    follow(tmp_path, ONE, TWO)
    assert not list(tmp_path.iterdir())
    (tmp_path / "secret").write_text(HEAD)
    (tmp_path / "hosts").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        follow(tmp_path, ONE, TWO)
    assert (tmp_path / "secret").read_text() == HEAD
