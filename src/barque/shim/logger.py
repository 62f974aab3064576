"""A logging program of a `binary://` address: it reads the process's output from descriptors.

Source: containerd's runtime v2 documentation, "Logging". The program's argv are the address's
options as `key value` pairs; it reads standard output at descriptor 3 and standard error at 4, and
closes 5 when it is ready; CONTAINER_ID and CONTAINER_NAMESPACE are in its environment.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import os

from barque.errors import BarqueError, Timeout
from barque.linux.process import close_range
from barque.shim.loop import READ, Loop, Pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from barque.shim.loop import Routine

READY_S: Final = 10.0
READY_FD: Final = 5
FIRST_FREE_FD: Final = 6
NOT_EXECUTED: Final = b"\0not executed: "
SAID_BYTES_MAX: Final = 1024


class Logger:
    """The program, started; its pipes' ends for output are `stdout` and `stderr`, the owner's."""

    def __init__(self, loop: Loop, path: str, options: dict[str, str], env: dict[str, str]) -> None:
        """Raises OSError when there are no descriptors or processes to be had."""
        self._loop = loop
        self._path = path
        words = [word for pair in options.items() for word in pair if word]
        self.pid, fds = fork_with_pipes(3)
        out_read, self.stdout, err_read, self.stderr, self._ready, ready_write = fds
        theirs = (out_read, err_read, ready_write)
        if self.pid == 0:
            _execute(path, [path, *words], env, theirs)
        for fd in theirs:
            os.close(fd)

    def ready(self) -> Routine:
        """Wait until it has said so. Raises BarqueError when it cannot be started or dawdles."""
        said = Pending()
        os.set_blocking(self._ready, False)
        self._loop.watch(self._ready, READ, lambda _: self._hear(said))
        deadline = self._loop.after(
            READY_S,
            lambda: said.fail(Timeout(f"logging program {self._path} is not ready")),
        )
        try:
            words: bytes = yield said
        finally:
            deadline.cancel()
            self.close()
        if words.startswith(NOT_EXECUTED):
            reason = words.removeprefix(NOT_EXECUTED).decode(errors="replace")
            raise BarqueError(f"logging program {self._path} cannot be started: {reason}")
        return None

    def close(self) -> None:
        """Listen no more whether it is ready. The program itself ends when its pipes do."""
        if self._ready >= 0:
            self._loop.unwatch(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _hear(self, said: Pending) -> None:
        try:
            words = os.read(self._ready, SAID_BYTES_MAX)
        except BlockingIOError:
            return
        if not said.done:
            said.set(words)


def fork_with_pipes(count: int) -> tuple[int, list[int]]:
    """A child, as fork(2) has it, and pipes to it: the reading and the writing end of each.

    Raises OSError when there are no descriptors or processes to be had."""
    fds: list[int] = []
    try:
        for _ in range(count):
            fds += os.pipe2(os.O_CLOEXEC)
        return os.fork(), fds
    except OSError:
        for fd in fds:
            os.close(fd)
        raise


def _execute(path: str, argv: list[str], env: dict[str, str], fds: tuple[int, int, int]) -> None:
    """In the child. Never returns."""
    try:
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(number, _signal.SIG_DFL)
        high = [os.dup(fd) if fd < FIRST_FREE_FD else fd for fd in fds]
        for place, fd in enumerate(high, 3):
            os.dup2(fd, place)
        close_range(FIRST_FREE_FD)
        os.execve(path, argv, {**os.environ, **env})
    except BaseException as error:
        os.write(READY_FD, NOT_EXECUTED + str(error).encode())
    finally:
        os._exit(127)
