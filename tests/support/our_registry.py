"""Our own registry as a process, for tests: started, asked, ended, its directory removed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from barque import program

STOP_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class OurRegistry:
    """`address` is host:port on loopback; `root` is its directory."""

    address: str
    root: Path
    pid: int

    def push(self, source: str, reference: str) -> None:
        """Copies an image there with skopeo; `source` is one of its transports."""
        subprocess.run(
            [
                *("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"),
                *(source, f"docker://{self.address}/{reference}"),
            ],
            check=True,
            capture_output=True,
        )


@contextmanager
def our_registry(*flags: str, root: Path | None = None, netns: str = "") -> Iterator[OurRegistry]:
    """`netns` names the network namespace whose loopback it listens on."""
    made = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp")) if root is None else None
    where = root or made
    assert where is not None
    argv = program.command("barque-registry", "serve", "--address", "127.0.0.1:0")
    process = subprocess.Popen(
        [
            *(("nsenter", f"--net=/run/netns/{netns}") if netns else ()),
            *(*argv, "--root", str(where), *flags),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), process.communicate()
        yield OurRegistry(line.split()[-1], where, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=STOP_LIMIT_S)
        if made is not None:
            shutil.rmtree(made)
    assert "Traceback" not in err, err
    assert process.returncode == 0, err
