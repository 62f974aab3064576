"""`barque system dial-stdio`: our standard streams joined to the daemon's socket.

What runs at the far end of `ssh://` hosts, of ours and of Docker's command line.
"""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.client.connection import open_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session
    from barque.client.connection import Stream

USAGE = ""
SUMMARY = "Join standard input and output to the daemon's socket"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (0, 0)

READ_BYTES = 256 << 10
SHUT_WR = 1


def run(session: Session, options: Options, arguments: list[str]) -> int:
    session.client.system.ping()  # starts a daemon on demand, and tells when there is none
    try:
        stream = open_stream(session.client.host)
    except OSError as error:
        raise errors.Unavailable(f"failed to open the raw stream connection: {error}") from None
    _join(stream)
    return 0


def _join(stream: Stream) -> None:
    """Both ways until the daemon closes; a thread each, so that neither waits for the other."""
    import _thread

    _thread.start_new_thread(_feed, (stream,))
    while data := stream.recv(READ_BYTES):
        terminal.write(terminal.STDOUT, data)


def _feed(stream: Stream) -> None:
    """The end of our input is the end of what the daemon gets."""
    import posix

    try:
        while data := posix.read(terminal.STDIN, READ_BYTES):
            stream.sendall(data)
        stream.shutdown(SHUT_WR)
    except OSError:
        pass  # the daemon has closed: the other direction ends as well
