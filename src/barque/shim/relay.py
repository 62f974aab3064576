"""The streams of a process below a shim that is not ours.

Another shim knows fifos only. This program is at their other ends, and is towards the daemon what
our shim would be: the same socket, the same log, the same rules of who may hold whom back. It
outlives the daemon as a shim does.

    process --shim--> fifo --Source--> Writer --pipe--> Stdio --> log, clients
    process <--shim-- fifo <--Writer-- Source <--pipe-- Stdio <-- clients

It ends once the process's output has ended and its socket has been taken away.
"""

from __future__ import annotations

import os
import sys

from barque.errors import BarqueError, InvalidArgument
from barque.shim import uri
from barque.shim.loop import Loop
from barque.shim.stdio import Stdio
from barque.shim.streams import Source, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

STDIN: Final = "stdin"
STDOUT: Final = "stdout"
STDERR: Final = "stderr"
READY: Final = b"ok\n"
LOOK_AGAIN_S: Final = 0.25


class Relay:
    """The fifos of one process, made in `directory`, between another shim and `address`."""

    def __init__(self, loop: Loop, address: str, directory: str, terminal: bool) -> None:
        """Raises BarqueError when the streams cannot be opened."""
        self._loop = loop
        self._directory = directory
        parsed = uri.parse(address)
        if parsed.kind != uri.BARQUE:
            raise InvalidArgument(f"not a barque:// address: {address!r}")
        self._socket = parsed.path
        self._left = 0
        wants_input = uri.BarqueOptions(dict(parsed.options)).stdin
        for name in names(wants_input, terminal):
            make_fifo(directory, name)
        self._stdio = Stdio(loop, terminal, "", address, "", complain)
        if terminal:
            self._join_terminal(wants_input)
        else:
            self._join_pipes(wants_input)

    def _join_pipes(self, wants_input: bool) -> None:
        assert self._stdio.child is not None
        stdin, stdout, stderr = (os.dup(fd) for fd in self._stdio.child)
        self._stdio.release_child()
        self._from_process(STDOUT, Writer(self._loop, stdout))
        self._from_process(STDERR, Writer(self._loop, stderr))
        if wants_input:
            self._to_process(stdin)
        else:
            os.close(stdin)

    def _join_terminal(self, wants_input: bool) -> None:
        """A pair of sockets in place of a terminal's master: the terminal is the shim's."""
        import _socket  # only here: most processes have no terminal

        ours, theirs = _socket.socketpair()
        self._stdio.set_console(ours.detach())
        end = theirs.detach()
        if wants_input:
            self._to_process(os.dup(end))
        self._from_process(STDOUT, Writer(self._loop, end))

    def _from_process(self, name: str, writer: Writer) -> None:
        """Until every writer of the fifo has come and gone; none yet is not the end."""
        path = os.path.join(self._directory, name)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._left += 1
        source = Source(self._loop, fd, lambda data: hand_on(source, writer, data))
        writer.caught_up = lambda: source.hold(False)
        source.ended.then(lambda _: self._ended(writer))

    def _to_process(self, fd: int) -> None:
        """For reading too: so it opens before the shim has it open."""
        path = os.path.join(self._directory, STDIN)
        writer = Writer(self._loop, os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        source = Source(self._loop, fd, lambda data: hand_on(source, writer, data))
        writer.caught_up = lambda: source.hold(False)
        source.ended.then(lambda _: writer.close())

    def _ended(self, writer: Writer) -> None:
        """All is read; it is done when all is handed on as well."""
        waiting = writer.queued > 0
        writer.caught_up = self._handed_on
        writer.close()
        if not waiting:
            self._handed_on()

    def _handed_on(self) -> None:
        self._left -= 1
        if not self._left:
            self._stdio.drain().then(lambda _: self._wait_to_go())

    def _wait_to_go(self) -> None:
        """Who attaches after the end is told so, until the daemon has taken notice of it."""
        if os.path.exists(self._socket):
            self._loop.after(LOOK_AGAIN_S, self._wait_to_go)
            return
        self._stdio.close()
        self._loop.when_idle(self._loop.stop)


def hand_on(source: Source, writer: Writer, data: bytes) -> None:
    if not writer.write(data):
        source.hold(True)


def names(wants_input: bool, terminal: bool) -> tuple[str, ...]:
    return (*((STDIN,) if wants_input else ()), STDOUT, *(() if terminal else (STDERR,)))


def make_fifo(directory: str, name: str) -> None:
    try:
        os.mkfifo(os.path.join(directory, name), 0o600)
    except FileExistsError:
        pass


def complain(text: str) -> None:
    """To the daemon's own log, which a program of its own inherits."""
    os.write(2, f"barque-stdio: {text}\n".encode())


def main(arguments: list[str]) -> int:
    """`ADDRESS DIRECTORY pipes|terminal`; answers "ok" or one line of error on standard output."""
    address, directory, kind = arguments
    if os.fork():
        os._exit(0)  # the rest is nobody's child: the daemon may go before it does
    os.setsid()
    os.chdir("/")
    loop = Loop()
    try:
        Relay(loop, address, directory, kind == "terminal")
    except (BarqueError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        sys.stdout.flush()
        return 1
    os.write(1, READY)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    loop.run()
    return 0
