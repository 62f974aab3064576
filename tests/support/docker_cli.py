"""The real docker command on an engine: what it prints, or how it fails."""

from __future__ import annotations

from typing import Any


def out(engine: Any, *arguments: str) -> str:
    done = engine.docker(*arguments, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode().strip())


def fails(engine: Any, *arguments: str) -> str:
    done = engine.docker(*arguments, check=False)
    assert done.returncode != 0
    return str(done.stderr.decode())
