"""What the command loads on its main road, to the end of it: import time is the product."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docker_peer import Peer

pytestmark = [pytest.mark.peer, pytest.mark.root]

SOURCE = Path(__file__).resolve().parents[3] / "src"
# Beside what the bare interpreter has: each of them costs less than 0.3 ms.
ALLOWED = {"_json", "_socket", "errno", "posix", "select", "time", "_signal", "__future__"}
REPORT = """
import sys
sys.path.insert(0, {source!r})
bare = set(sys.modules)
from barque.cli.main import main
code = main({words!r})
import os
os.write({fd}, " ".join(set(sys.modules) - bare - {{"os"}}).encode())
sys.exit(code)
"""


def loaded(peer: Peer, *words: str) -> set[str]:
    read, write = os.pipe()
    code = REPORT.format(source=str(SOURCE), words=list(words), fd=write)
    with os.fdopen(read) as report:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            env={"DOCKER_HOST": peer.host},
            pass_fds=[write],
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )
        os.close(write)
        return {name for name in report.read().split() if not name.startswith("barque")}


@pytest.mark.parametrize(
    "words",
    [("ps",), ("run", "--rm", "busybox", "true"), ("run", "--rm", "-i", "busybox", "true")],
    ids=" ".join,
)
def test_nothing_is_loaded_that_is_not_needed(peer: Peer, words: tuple[str, ...]) -> None:
    found = loaded(peer, *words) - {"stat", "_stat", "posixpath", "genericpath", "os.path"}
    assert found - {"_collections_abc"} <= ALLOWED


def test_the_two_roads_load_few_modules_of_our_own(peer: Peer) -> None:
    assert "json" not in loaded(peer, "run", "--rm", "-e", "A=b", "-p", "80", "busybox", "true")
