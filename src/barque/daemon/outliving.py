"""Programs of ours that outlive the daemon: each is found again by its socket, or started on it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

BACKLOG = 16


def started(argv: Sequence[str], address: Path, log: Path) -> subprocess.Popen[bytes]:
    """A process of `argv` whose standard input is a socket that listens at `address` already.

    What it says goes to the end of `log`. It is in a session of its own.
    """
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(address))
        address.chmod(0o600)
        listening.listen(BACKLOG)
        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                stdin=listening.fileno(),
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
