"""Emulators as the kernel tells of them, in a directory of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.daemon.emulation import emulated, warnings

ARM64 = "7f454c460201010000000000000000000200b700"


def entry(magic: str, state: str = "enabled", offset: int = 0) -> str:
    return (
        f"{state}\ninterpreter /usr/bin/qemu\nflags: POCF\noffset {offset}\nmagic {magic}\n"
        f"mask {'ff' * 20}\n"
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "qemu-aarch64").write_text(entry(ARM64))
    (tmp_path / "qemu-s390x").write_text(entry("7f454c4602020100000000000000000000020016"))
    (tmp_path / "off-riscv64").write_text(entry(ARM64[:-4] + "f300", "disabled"))
    (tmp_path / "elsewhere").write_text(entry(ARM64[:-4] + "1500", offset=4))
    (tmp_path / "python").write_text("enabled\ninterpreter /usr/bin/python3\nextension .py\n")
    (tmp_path / "odd").write_text(entry("7f454c46zz"))
    return tmp_path


def test_what_is_registered(directory: Path) -> None:
    assert emulated(str(directory)) == {"arm64", "s390x"}


def test_all_switched_off(directory: Path) -> None:
    (directory / "status").write_text("disabled\n")
    assert emulated(str(directory)) == frozenset()


def test_a_kernel_without_it(tmp_path: Path) -> None:
    assert emulated(str(tmp_path / "nothing")) == frozenset()


@pytest.mark.parametrize(
    ("platform", "told"),
    [
        ("linux/amd64", 0),
        ("linux/386", 0),
        ("linux", 0),  # an image that does not say
        ("linux/arm64", 1),
        ("linux/arm64/v8", 1),
        ("linux/riscv64", 2),
        ("linux/../x y/z/\n", 2),
    ],
)
def test_what_is_told(directory: Path, platform: str, told: int) -> None:
    found = warnings(platform, "x86_64", str(directory))
    assert len(found) == told
    if told:
        assert found[0] == (
            f"The requested image's platform ({platform}) does not match the detected host "
            "platform (linux/amd64) and no specific platform was requested"
        )
