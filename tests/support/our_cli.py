"""Our command on a stack: what it prints, or how it fails."""

from __future__ import annotations

from tests.support.barque import Stack


def out(stack: Stack, *arguments: str) -> str:
    done = stack.cli(*arguments, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def fails(stack: Stack, *arguments: str) -> str:
    done = stack.cli(*arguments, check=False)
    assert done.returncode != 0
    return done.stderr.decode()
