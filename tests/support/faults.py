"""Kernel calls of a running process that fail, made so by strace."""

from __future__ import annotations

import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTACH_LIMIT_S = 30.0


@contextmanager
def failing(pid: int, fault: str, path: Path | None = None) -> Iterator[None]:
    """Within the block calls of `pid` and of all its threads fail, as strace's `inject` has it:
    "mkdir:error=ENOSPC:when=2" is the second mkdir; without `when` it is each. With `path` only
    those are meant, and counted, that name it or have it open."""
    only = [] if path is None else ["-P", str(path)]
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", "/dev/null", *only, "-e", f"inject={fault}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr is not None
        ready, _, _ = select.select([tracer.stderr], [], [], ATTACH_LIMIT_S)
        told = tracer.stderr.readline() if ready else "nothing"
        assert "attached" in told, f"strace: {told}"
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=ATTACH_LIMIT_S)
