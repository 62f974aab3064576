"""An exec root that leaves no room for a whole id in the path of a socket."""

from __future__ import annotations

import pytest

from barque.daemon.paths import EXEC_ROOT_BYTES
from tests.support.barque import stack
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
PREFIX = f"bq-{'long' * 14}"


def test_containers_run_and_are_found_again() -> None:
    with stack(prefix=PREFIX) as barque:
        assert len(str(barque.socket.parent)) == EXEC_ROOT_BYTES
        ran = barque.docker("run", "-i", "--rm", "busybox", "cat", stdin=b"through")
        assert ran.stdout == b"through"
        barque.docker("run", "-d", "-i", "-t", "--name", "kept", "busybox", "sh")
        barque.kill("barqued")
        barque.kill("barque-containerd")
        barque.start()
        assert barque.docker("exec", "-i", "kept", "cat", stdin=b"again").stdout == b"again"
        barque.docker("exec", "-d", "kept", "sh", "-c", "echo told > /proc/1/fd/1")
        wait_for(lambda: b"told" in barque.docker("logs", "kept").stdout)
        barque.docker("rm", "-f", "kept")
