"""Hooks: programs of the config that get the container's state on standard input.

config.md, "POSIX-platform Hooks". One after the other; the first that fails ends the operation,
but for poststart and poststop, where the caller makes warnings of failures.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select

from barque.errors import BarqueError
from barque.linux.fs import write_all
from barque.linux.process import close_range, wait_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    from barque.oci.runtime import Hook

LONGEST_QUOTE = 1024  # bytes of a failed hook's output that the error repeats
LONGEST_WAIT_MS = (1 << 31) - 1
KILL = 9
SIGNALLED = 128


def run_hooks(hooks: Iterable[Hook], state: bytes, inherited: Mapping[str, str]) -> None:
    """Run each with `state`; BarqueError when one fails or takes too long. `inherited` is the
    environment of a hook that has none of its own."""
    for index, hook in enumerate(hooks):
        try:
            _run(hook, state, inherited)
        except (BarqueError, OSError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            raise BarqueError(f"error running hook #{index}: {text}") from error


def _run(hook: Hook, state: bytes, inherited: Mapping[str, str]) -> None:
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    stdout = os.memfd_create("stdout", os.MFD_CLOEXEC)
    stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        write_all(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        if not os.access(hook.path, os.X_OK):
            os.stat(hook.path)  # says why
        pid = os.fork()
        if pid == 0:
            _become(hook, (stdin, stdout, stderr), inherited)
        code = _wait(pid, hook.timeout_s)
        if code:
            raise BarqueError(
                f"error running hook: {_ended(code)}, "
                f"stdout: {_quote(stdout)}, stderr: {_quote(stderr)}"
            )
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)


def _become(hook: Hook, streams: tuple[int, int, int], inherited: Mapping[str, str]) -> NoReturn:
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        close_range(3)
        environment = inherited
        if hook.env is not None:
            environment = dict(entry.partition("=")[::2] for entry in hook.env)
        os.execve(hook.path, list(hook.args), environment)
    except BaseException as error:
        write_all(2, f"fork/exec {hook.path}: {error}".encode(errors="replace"))
    finally:
        os._exit(127)


def _wait(pid: int, timeout_s: int | None) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(None if timeout_s is None else min(timeout_s * 1000, LONGEST_WAIT_MS)):
            os.kill(pid, KILL)
            wait_pidfd(pidfd)
            raise BarqueError(f"hook ran past specified timeout of {timeout_s}s")
        return wait_pidfd(pidfd) or 0
    finally:
        os.close(pidfd)


def _ended(code: int) -> str:
    """How a program ended, in Go's words: a signal is 128 and its number here."""
    if code <= SIGNALLED:
        return f"exit status {code}"
    return f"signal: {(_signal.strsignal(code - SIGNALLED) or '').lower()}"


def _quote(fd: int) -> str:
    return os.pread(fd, LONGEST_QUOTE, 0).decode(errors="replace").strip()
