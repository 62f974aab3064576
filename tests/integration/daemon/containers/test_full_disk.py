"""A data root without room: each operation says so in one line, and all is well with room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def small() -> Iterator[Stack]:
    """A stack whose data root is a small tmpfs."""
    with stack(busybox=False) as made:
        made.stop()
        made.kill("barque-containerd")
        data = str(made.root / "d")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", data], check=True)
        try:
            made.start()
            made.add_busybox()
            yield made
            made.stop()
            made.kill("barque-containerd")
        finally:
            subprocess.run(["umount", "-l", data], check=True)


def test_no_space_left(small: Stack) -> None:
    small.docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    ballast = small.root / "d" / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), b"x" * 65536)
        except OSError:
            pass
    failures = []
    for _ in range(6):
        done = small.docker("run", "--rm", "busybox", "true", check=False)
        if done.returncode:
            assert done.returncode == 125
            failures.append(done.stderr.decode())
    assert failures
    for text in failures:
        assert "no space left on device" in text.lower(), text
        assert "Traceback" not in text
        assert "internal error" not in text
    assert small.docker("exec", "stays", "echo", "hi").stdout == b"hi\n"
    ballast.unlink()
    assert small.docker("run", "--rm", "busybox", "echo", "room").stdout == b"room\n"
    assert small.docker("ps", "-aq").stdout.count(b"\n") == 1
    small.docker("rm", "-f", "stays")
