"""Standard streams of one process: from it to log, clients, fifos, files; from those to it.

    without terminal:  process --pipe--> Source --> log, clients, fifo     (two of them)
                       clients, fifo --> Writer --pipe--> process
    with terminal:     process <--pty--> master; a duplicate of it is the Writer

A slow client or fifo holds the sources back, and so the process. A log never does.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument
from barque.linux import tty
from barque.shim import uri
from barque.shim.attach import Attachments
from barque.shim.logger import Logger
from barque.shim.logs import STDERR, STDOUT, OutputLog, json_file, local
from barque.shim.logwriter import BackgroundLog
from barque.shim.loop import Loop, Pending
from barque.shim.streams import FileWriter, Source, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Routine

HOLD_BYTES: Final = 1 << 17
WINDOW_MAX: Final = 0xFFFF
TERMINAL_GRACE_S: Final = 0.2
KEPT: Final = (  # attributes that are plain values
    "input_wanted",
    "input_once",
    "early_input",
    "console",
    "ends_input",
    "is_drained",
    "is_open",
)
LOG_GRACE_S: Final = 30.0  # for a log that does not hold its container back, on a disk that blocks


class Stdio:
    """Made before the runtime is called, with `child` the descriptors for it; closed at Delete.

    Those of an exec are `late`: what is its client's is opened by `ready` only, as runc's shim does
    it. A client whose Exec or Start was lost on the way reads its fifos to their end, and nobody
    but the process may hold that up.
    """

    def __init__(
        self,
        loop: Loop,
        terminal: bool,
        stdin: str,
        stdout: str,
        stderr: str,
        warn: Callable[[str], None],
        *,
        owner: tuple[int, int] = (0, 0),
        logger_env: dict[str, str] | None = None,
        late: bool = False,
        saved: dict[str, Any] | None = None,
    ) -> None:
        """Raises InvalidArgument or Unsupported for addresses, BarqueError when one cannot be
        opened; nothing is left open then. `saved`: as it was when `save` was called, by a worker
        that has left."""
        self.terminal = terminal
        self._owner = owner
        self._logger_env = logger_env or {}
        self._logger: Logger | None = None
        self._direct: dict[int, int] = {}
        self._loop = loop
        self._warn = warn
        self._sources: dict[int, Source] = {}
        self._sinks: dict[int, list[Writer | FileWriter]] = {STDOUT: [], STDERR: []}
        self._log: OutputLog | BackgroundLog | None = None
        self._attachments: Attachments | None = None
        self._input: Writer | None = None
        self._input_wanted = False
        self._input_once = False
        self._input_fifo: Source | None = None
        self._early_input = b""
        self._console = -1
        self._child: list[int] = []
        self._ends_input = False
        self._is_drained = False
        self._is_open = False
        self._addresses = uri.parse(stdin), uri.parse(stdout), uri.parse(stderr)
        self.child: tuple[int, int, int] | None = None
        if saved is not None:
            self._restore(saved, self._addresses[1])
        elif not late or self._addresses[1].kind == uri.BARQUE:
            self._open_all()

    # from one worker to the next

    def save(self) -> dict[str, Any] | None:
        """What to make it from again; None: not now."""
        if self._logger is not None or self._child or self._direct:
            return None
        saved: dict[str, Any] = {
            "sources": {stream: source.save() for stream, source in self._sources.items()},
            "sinks": [
                (stream, isinstance(sink, FileWriter), sink.save())
                for stream, sinks in self._sinks.items()
                for sink in sinks
            ],
            "input": -1 if self._input is None else self._input.save(),
            "fifo": -1 if self._input_fifo is None else self._input_fifo.save(),
            "log": False if self._log is None else self._log.save(),
            "clients": False if self._attachments is None else self._attachments.save(),
        }
        ends = (*saved["sources"].values(), *(fd for _, _, fd in saved["sinks"]))
        if None in ends or None in saved.values():
            return None
        for name in KEPT:
            saved[name] = getattr(self, f"_{name}")
        if self._input is not None and self._input.closed:
            saved["input"], saved["ends_input"] = -1, True
        return saved

    def _restore(self, saved: dict[str, Any], stdout: uri.Address) -> None:
        for name in KEPT:
            setattr(self, f"_{name}", saved[name])
        own = uri.BarqueOptions(stdout.options) if stdout.kind == uri.BARQUE else None
        if own is not None and saved["log"]:
            self._log = self._open_log(own, saved["log"])
        if own is not None and saved["clients"]:
            self._attach(stdout.path, own, saved["clients"])
        for stream, to_file, fd in saved["sinks"]:
            sink = FileWriter("", fd) if to_file else Writer(self._loop, fd, self._balance)
            self._sinks[stream].append(sink)
        for stream, fd in saved["sources"].items():
            if fd >= 0:
                self._add_source(stream, fd)
        if saved["input"] >= 0:
            self._input = Writer(self._loop, saved["input"], self._input_caught_up)
        if saved["fifo"] >= 0:
            self._read_fifo(saved["fifo"])

    # opening

    def _open_all(self) -> None:
        try:
            if self._attachments is None:
                self._open(*self._addresses)
            self.child = self._pipes()
        except OSError as error:
            self.close()
            raise BarqueError(f"stdio cannot be opened: {error}") from error
        except BaseException:
            self.close()
            raise
        self._is_open = True

    def _open(self, stdin: uri.Address, stdout: uri.Address, stderr: uri.Address) -> None:
        if stdout.kind == uri.BARQUE:
            if stdin.kind != uri.NULL or stderr.kind != uri.NULL:
                raise InvalidArgument("barque:// takes all streams: stdin and stderr must be empty")
            self._open_own(stdout.path, uri.BarqueOptions(stdout.options))
            return
        if stdin.kind not in (uri.NULL, uri.FIFO):
            raise InvalidArgument(f"stdin cannot be a {stdin.kind}:// address")
        self._input_wanted = stdin.kind == uri.FIFO
        if stdout.kind in (uri.FILE, uri.BINARY) and stderr.kind == uri.NULL:
            stderr = stdout
        if stdout.kind == uri.BINARY:
            if (stderr.kind, stderr.path) != (uri.BINARY, stdout.path):
                raise InvalidArgument("one logging program takes both output streams")
            self._logger = Logger(self._loop, stdout.path, stdout.options, self._logger_env)
            self._direct = {STDOUT: self._logger.stdout, STDERR: self._logger.stderr}
        self._open_sink(STDOUT, stdout)
        if not self.terminal:
            self._open_sink(STDERR, stderr)
        if stdin.kind == uri.FIFO:
            fd = os.open(stdin.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._read_fifo(fd)

    def _read_fifo(self, fd: int) -> None:
        self._input_fifo = Source(self._loop, fd, self._from_fifo)
        self._input_fifo.ended.then(lambda _: self._fifo_ended())

    def _open_own(self, path: str, options: uri.BarqueOptions) -> None:
        self._input_wanted = options.stdin
        self._input_once = options.stdin_once and not self.terminal
        if options.log != "none":
            self._log = self._open_log(options)
        self._attach(path, options)

    def _attach(self, path: str, options: uri.BarqueOptions, saved: Any = None) -> None:
        stdin = self if options.stdin else None
        loop, tty = self._loop, self.terminal
        self._attachments = Attachments(loop, path, tty, stdin, self._balance, saved)

    def _open_log(
        self, options: uri.BarqueOptions, saved: dict[str, Any] | None = None
    ) -> OutputLog | BackgroundLog:
        fd = -1 if saved is None else saved["fd"]

        def make() -> OutputLog:
            path, size, files = options.log_path, options.max_size, options.max_files
            if options.log == "local":
                return local(path, size, files, self._warn, packed=options.packed, fd=fd)
            labels = options.attributes
            return json_file(path, size, files, labels, self._warn, packed=options.packed, fd=fd)

        if options.buffer:
            return BackgroundLog(self._loop, make, options.buffer, self._warn)
        log = make()
        if saved is not None:
            log.restore(saved)
        return log

    def _open_sink(self, stream: int, address: uri.Address) -> None:
        if address.kind == uri.FIFO:
            # Also for reading: it opens at once, and a reader that comes and goes breaks nothing.
            fd = os.open(address.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._sinks[stream].append(Writer(self._loop, fd, self._balance))
        elif address.kind == uri.FILE:
            os.makedirs(os.path.dirname(address.path), mode=0o711, exist_ok=True)
            self._sinks[stream].append(FileWriter(address.path))
        elif address.kind == uri.BINARY and self.terminal:
            fd = self._direct.pop(stream)
            self._sinks[stream].append(Writer(self._loop, fd, self._balance))
        elif address.kind == uri.BARQUE or (address.kind == uri.BINARY and not self._logger):
            raise InvalidArgument(f"stderr cannot be a {address.kind}:// address of its own")

    def _pipes(self) -> tuple[int, int, int] | None:
        if self.terminal:
            return None
        fds = [self._input_pipe()]
        for stream in (STDOUT, STDERR):
            if stream in self._direct:
                self._child.append(self._direct[stream])
                fds.append(self._direct.pop(stream))
                continue
            if self._discards(stream):
                fds.append(self._null(os.O_WRONLY))
                continue
            read, write = self._pipe()
            self._child.append(write)
            self._add_source(stream, read)
            fds.append(write)
        return fds[0], fds[1], fds[2]

    def _input_pipe(self) -> int:
        if not self._input_wanted:
            return self._null(os.O_RDONLY)
        read, write = self._pipe()
        self._child.append(read)
        self._set_input(write)
        return read

    def _pipe(self) -> tuple[int, int]:
        """A pipe that the task's options may give to another user."""
        read, write = os.pipe2(os.O_CLOEXEC)
        if self._owner != (0, 0):
            os.fchown(read, *self._owner)
            os.fchown(write, *self._owner)
        return read, write

    def _null(self, flags: int) -> int:
        fd = os.open("/dev/null", flags | os.O_CLOEXEC)
        self._child.append(fd)
        return fd

    def _discards(self, stream: int) -> bool:
        return self._attachments is None and not self._sinks[stream]

    def _add_source(self, stream: int, fd: int) -> None:
        source = Source(self._loop, fd, lambda data: self._output(stream, data))
        self._sources[stream] = source
        source.ended.then(lambda _: self._source_ended(stream))

    def _set_input(self, fd: int) -> None:
        self._input = Writer(self._loop, fd, self._input_caught_up)
        if self._early_input:
            self._input.write(self._early_input)
            self._early_input = b""
        if self._ends_input:
            self.close_stdin()

    def ready(self) -> Routine:
        """Open what is not open yet and wait for the logging program, if there is one. Raises
        BarqueError when that fails."""
        if not self._is_open:
            self._open_all()
        if self._logger is not None:
            yield from self._logger.ready()
        return None

    def release_child(self) -> None:
        """The runtime has its copies: close ours of the process's ends."""
        for fd in self._child:
            os.close(fd)
        self._child = []
        self.child = None

    def set_console(self, master: int) -> None:
        """The runtime has made the terminal; `master` is ours from here on."""
        self._console = master
        self._add_source(STDOUT, os.dup(master))
        if self._input_wanted:
            self._set_input(os.dup(master))

    # output

    def _output(self, stream: int, data: bytes) -> None:
        if self._log is not None:
            self._log.write(stream, data)
        if self._attachments is not None:
            self._attachments.send(stream, data)
        for sink in self._sinks[stream]:
            sink.write(data)
        self._balance()

    def _balance(self) -> None:
        """Hold the process back while someone who may do so is behind."""
        held = self._attachments is not None and self._attachments.holds_back()
        for stream, source in self._sources.items():
            behind = any(sink.queued >= HOLD_BYTES for sink in self._sinks[stream])
            source.hold(held or behind)

    def _source_ended(self, stream: int) -> None:
        """The last byte is read: a reader of the fifo sees its end now, not at Delete."""
        if self._log is not None:
            self._log.end(stream)
        while self._sinks[stream]:
            self._sinks[stream].pop().close()

    def take_back(self) -> None:
        """The start has failed: readers see the end. Another start finds all as this one did."""
        ends_input = self._ends_input
        for stream in self._sinks:
            self._source_ended(stream)
        self._close_streams()
        self._sources, self._input, self._logger = {}, None, None
        self._ends_input = ends_input  # as the client has said, not by the end of its fifo
        self._is_open = False

    # input

    def write(self, data: bytes) -> bool:
        """Bytes of a client for the process. False: hold them back."""
        if self._input is None:
            if self._input_wanted and not self._ends_input:
                self._early_input += data
            return len(self._early_input) < HOLD_BYTES
        return self._input.write(data)

    def client_ended(self) -> None:
        """A client that may write has ended its side."""
        if self._input_once:
            self.close_stdin()

    def _from_fifo(self, data: bytes) -> None:
        if not self.write(data) and self._input_fifo is not None:
            self._input_fifo.hold(True)

    def _fifo_ended(self) -> None:
        self._input_fifo = None
        if not self.terminal:
            self.close_stdin()

    def _input_caught_up(self) -> None:
        if self._input_fifo is not None:
            self._input_fifo.hold(False)
        if self._attachments is not None:
            self._attachments.hold_input(False)

    def close_stdin(self) -> None:
        """The process reads the end of file after what is queued."""
        self._ends_input = True
        if self._input is not None and not self.terminal:
            self._input.close()

    # terminal

    def resize(self, width: int, height: int) -> None:
        """A process without a terminal has none to resize: done, as runc's shim says."""
        if width > WINDOW_MAX or height > WINDOW_MAX:
            raise InvalidArgument(f"window size {width}x{height} is out of range")
        if self._console >= 0:
            tty.set_window_size(self._console, height, width)

    # the end

    def drain(self) -> Pending:
        """The process has exited: done when all it wrote is in the log and on its way to clients.

        A terminal's output reaches its master some time after the write; its end is waited for,
        but not for ever: another process may have kept the terminal.
        """
        done = Pending()
        source = self._sources.get(STDOUT)
        if not self.terminal or source is None or source.ended.done:
            self._drained(done)
            return done
        source.hold(False)
        source.ended.then(lambda _: self._drained(done))
        self._loop.after(TERMINAL_GRACE_S, lambda: self._drained(done))
        return done

    def _drained(self, done: Pending) -> None:
        if done.done or self._is_drained:
            return
        self._is_drained = True
        for stream, source in tuple(self._sources.items()):
            source.drain()
            if self._log is not None and not source.ended.done:
                self._log.end(stream)
        if self._attachments is not None:
            self._attachments.end()
        settled = self._log.settled() if self._log is not None else None
        if settled is None:
            done.set()
            return

        def finish() -> None:
            deadline.cancel()
            if not done.done:
                done.set()

        deadline = self._loop.after(LOG_GRACE_S, finish)
        settled.then(lambda _: finish())

    def close(self) -> None:
        """Let go of everything. Clients and fifos still get what is queued for them."""
        self._close_streams()
        if self._attachments is not None:
            self._attachments.close()
            self._attachments = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _close_streams(self) -> None:
        """All but the shim's own socket and log."""
        self.release_child()
        if self._input_fifo is not None:
            self._input_fifo.close()
        for source in self._sources.values():
            source.close()
        if self._input is not None:
            self._input.abandon()
        for sinks in self._sinks.values():
            while sinks:
                sinks.pop().close()
        if self._console >= 0:
            os.close(self._console)
            self._console = -1
        if self._logger is not None:
            self._logger.close()
        for fd in self._direct.values():
            os.close(fd)
        self._direct = {}
