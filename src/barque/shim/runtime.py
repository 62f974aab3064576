"""The OCI runtime as the shim sees it: argv, files, exit code. docs/boundaries.md section 2.

    our own       fork, then `barque.runc.main.main(argv)` in the child: no exec, no import
    a foreign one fork and exec of the binary that the task's options name

A call is a routine: it ends when the runtime has exited. Its standard input, output and error are
given, because create and exec hand them on to the container's process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import os

from barque.errors import BarqueError, NotFound
from barque.linux.fs import write_atomic
from barque.linux.process import close_range, fork, place_stdio
from barque.oci import document
from barque.program import command
from barque.shim import paths
from barque.shim.ground import IGNORED_SIGNALS, NOBODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Protocol

    from barque.shim.loop import Loop, Routine

    class Making(Protocol):
        """A container that our runtime is making."""

        new_network: bool  # it wants a network namespace of its own

        def fileno(self) -> int:
            """Readable when `step` has not to wait."""

        def step(self) -> bool:
            """Go on; True: it is made. What it raises: nothing is left of it."""

        def give_up(self) -> None:
            """Nothing is left of it."""


LOG_TAIL_BYTES: Final = 1 << 16
STDERR: Final = 2


class Entry:
    """Our runtime, loaded in this process. `main` runs a command in a process forked for it;
    `at_once` in this one, where that takes no time; False: it was not done; `begin` begins one
    that is gone on with when its process has said something; None: it has to be run."""

    __slots__ = ("at_once", "begin", "main")

    def __init__(
        self,
        main: Callable[[list[str]], int],
        at_once: Callable[[list[str]], bool],
        begin: Callable[..., Making | None],
    ) -> None:
        self.main = main
        self.at_once = at_once
        self.begin = begin


class Runtime:
    """How the runtime is called for one container.

    `binary`: the foreign runtime, or empty for ours. `entry`: our runtime when it is
    loaded and this process runs from a sealed interpreter, else None: then ours is executed too.
    """

    def __init__(
        self,
        loop: Loop,
        bundle: str,
        root: str,
        binary: str,
        systemd_cgroup: bool,
        entry: Entry | None,
        criu: str = "",
    ) -> None:
        self._criu = criu
        self._loop = loop
        self._bundle = bundle
        self._calls = 0
        self._under_way = 0
        self.root = root
        self.binary = binary
        self.systemd_cgroup = systemd_cgroup
        self._entry = entry

    def save(self) -> None:
        """Write down what `delete` needs when this shim is dead."""
        options = {
            "root": self.root,
            "binary": self.binary,
            "systemd_cgroup": self.systemd_cgroup,
        }
        write_atomic(paths.bundle_file(self._bundle, paths.OPTIONS), document.dump(options))

    def call(
        self, what: str, *arguments: str, stdio: tuple[int, int, int] | None = None
    ) -> Routine:
        """Run the runtime to its end. `stdio`: descriptors for its 0, 1 and 2; none: /dev/null.

        Raises BarqueError "OCI runtime WHAT failed: ..." with the runtime's own last error.
        """
        self._calls += 1
        self._under_way += 1
        log = paths.runtime_log(self._bundle, self._calls)
        argv = self._argv(log, arguments)
        try:
            if (yield from self._do_here(argv, stdio)):
                return None
            pid = self._fork(argv, stdio, log)
            status = yield self._loop.exited(pid)
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                raise self._error(what, code, log)
        finally:
            self._under_way -= 1
            if os.path.exists(log):
                os.unlink(log)
        return None

    def forget(self, identity: str) -> bool:
        """`delete` of a container that has ended, where that is done in this process at once; not
        while another command works on it."""
        if self.binary or self._entry is None or self._under_way:
            return False
        self._calls += 1
        log = paths.runtime_log(self._bundle, self._calls)
        return self._entry.at_once(self._argv(log, ("delete", identity)))

    def _do_here(self, argv: list[str], stdio: tuple[int, int, int] | None) -> Routine:
        """Do what our runtime can do in this process; False: it is not done."""
        ours = None if self.binary else self._entry
        ground = self._loop.ground
        network = ground.take_network()
        try:
            if ours is None:
                return False
            if stdio is None:
                return ours.at_once(argv)
            making = ours.begin(
                argv,
                stdio,
                parent_reaps=ground.keeper != 0,
                forked=ground.forked,
                network=network,
            )
        finally:
            if network != NOBODY:
                os.close(network)
        if making is None:
            return False
        ground.new_network = making.new_network
        try:
            yield self._loop.readable(making.fileno())
            while not making.step():
                yield self._loop.readable(making.fileno())
        except (BarqueError, OSError):
            making.give_up()
            return False
        return True

    def _argv(self, log: str, arguments: tuple[str, ...]) -> list[str]:
        argv = ["--root", self.root, "--log", log, "--log-format", "json"]
        if self.systemd_cgroup:
            argv.append("--systemd-cgroup")
        if self._criu:
            argv += ["--criu", self._criu]
        return [*argv, *arguments]

    def _fork(self, argv: list[str], stdio: tuple[int, int, int] | None, log: str) -> int:
        pid = fork()
        if pid:
            return pid
        code = 1
        try:
            code = self._child(argv, stdio, log)
        except BaseException as error:
            report(f"{type(error).__name__}: {error}", log)
        finally:
            os._exit(code)

    def _child(self, argv: list[str], stdio: tuple[int, int, int] | None, log: str) -> int:
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGCHLD, *IGNORED_SIGNALS):
            _signal.signal(number, _signal.SIG_DFL)
        place_stdio(stdio)
        close_range(3)
        if self._entry is not None and not self.binary:
            return self._entry.main(argv)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
        program = [self.binary] if self.binary else command("barque-runc")
        try:
            os.execvp(program[0], [*program, *argv])
        except OSError as error:
            report(f'exec: "{program[0]}": {error.strerror}', log)
        return 127

    def _error(self, what: str, code: int, log: str) -> BarqueError:
        text = last_error(log)
        name = os.path.basename(self.binary) or "barque-runc"
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        if not text:
            text = f"{name} did not terminate successfully: {how}"
        return BarqueError(f"OCI runtime {what} failed: {text}")


def report(text: str, log: str) -> None:
    """Add an error line to the runtime's log, as a runtime would."""
    line = document.dump({"level": "error", "msg": text}) + b"\n"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, line)
    os.close(fd)


def last_error(log: str) -> str:
    """The message of the last error in a runtime's JSON log; empty when there is none."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            lines = file.read(LOG_TAIL_BYTES).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry: Any = document.parse(line)
            if entry.get("level") in ("error", "fatal", "panic"):
                return str(entry["msg"]).strip()
        except (ValueError, AttributeError, KeyError):
            continue
    return ""


def kill_error(error: BarqueError) -> BarqueError:
    """A failed `kill` of a runtime, in containerd's kinds and words."""
    text = str(error)
    if (
        "os: process already finished" in text
        or "container not running" in text
        or "no such process" in text.lower()
    ):
        return NotFound("process already finished")
    if "does not exist" in text:
        return NotFound("no such container")
    return error


def load_entry() -> Entry | None:
    """Our runtime, loaded for calls in forked children; None: not from this process."""
    from barque.linux import memfd

    if not memfd.is_sealed():
        return None
    import barque.runc.main as main

    main.preload()
    return Entry(main.main, main.at_once, main.begin)
