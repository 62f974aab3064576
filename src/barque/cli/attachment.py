"""Being the terminal of a container: run, start -a, attach.

client                              daemon
  │── attach (hijack) ──────────────▶│   both are sent, then both answers awaited: nothing that
  │── wait?condition ───────────────▶│   the process writes and no exit is missed
  │── start ────────────────────────▶│
  │◀═════════ streams ══════════════▶│   until the output ends or the user detaches
  │◀────────── exit status ──────────│
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from barque import errors
from barque.cli import signals, terminal
from barque.cli.conversation import Conversation, detach_sequence
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.client.client import Client, Reply
    from barque.client.connection import Stream


class Wanted:
    """What of a container is attached, and how."""

    __slots__ = ("detach_keys", "forward_signals", "stderr", "stdin", "stdout", "tty")

    def __init__(
        self,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        detach_keys: str = "",
        forward_signals: bool = True,
    ) -> None:
        self.tty, self.stdin, self.stdout, self.stderr = tty, stdin, stdout, stderr
        self.detach_keys = detach_keys
        self.forward_signals = forward_signals


def run(client: Client, container: str, wanted: Wanted, *, removed: bool, **saved: str) -> int:
    """Attach to a container that is not running, start it, and stay to its end.

    `removed`: it removes itself, so the end is its removal. `saved`: what `start` is told of a
    checkpoint. Returns the exit code, 0 when detached.
    """
    containers = client.containers
    attaching = containers.attach(
        container,
        stdin=wanted.stdin,
        stdout=wanted.stdout,
        stderr=wanted.stderr,
        detach_keys=wanted.detach_keys,
    )
    waiting = containers.begin_wait(container, "removed" if removed else "next-exit")
    stream, early, _ = attaching()
    waited = waiting()
    caught = _caught(wanted)
    try:
        try:
            containers.start(container, **saved)
        except errors.BarqueError:
            if removed:
                waited.read()  # it goes by itself: leave when it has gone
            raise
        if talk(client, stream, early, wanted, caught, container):
            return 0
    finally:
        if caught is not None:
            caught.close()
    return exit_code(waited)


def attach(client: Client, container: str, wanted: Wanted) -> int:
    """Attach to a container that runs, and stay to its end. Raises Failure when detached."""
    waiting = client.containers.begin_wait(container)
    attaching = client.containers.attach(
        container, stdin=wanted.stdin, detach_keys=wanted.detach_keys
    )
    waited = waiting()
    stream, early, _ = attaching()
    if wanted.tty:
        _nudge(client, container)
    caught = _caught(wanted)
    try:
        if talk(client, stream, early, wanted, caught, container):
            raise Failure(1, "read escape sequence")
    finally:
        if caught is not None:
            caught.close()
    return exit_code(waited)


def _nudge(client: Client, container: str) -> None:
    """Another size for a moment: what runs there draws its screen again, for us to see it."""
    rows, columns = terminal.size(terminal.STDOUT)
    if rows and columns:
        try:
            client.containers.resize(container, rows + 1, columns + 1)
        except errors.BarqueError:
            pass  # it has ended meanwhile


def exit_code(waited: Reply) -> int:
    """From the answer of `wait`. Raises BarqueError with the container's error."""
    document = waited.json()
    failure = (document.get("Error") or {}).get("Message")
    if failure:
        raise errors.BarqueError(str(failure))
    return int(document["StatusCode"])


def _caught(wanted: Wanted) -> signals.Signals | None:
    if wanted.forward_signals:
        return signals.Signals(signals.FORWARDED)
    return signals.Signals((_signal.SIGWINCH, *signals.ENDING)) if wanted.tty else None


def talk(
    client: Client,
    stream: Stream,
    early: bytes,
    wanted: Wanted,
    caught: signals.Signals | None,
    container: str,
) -> bool:
    """The conversation with a container; True when the user has detached."""

    def resize() -> None:
        rows, columns = terminal.size(terminal.STDOUT)
        if rows and columns:
            client.containers.resize(container, rows, columns)

    def on_signal(number: int) -> None:
        if number in signals.ENDING and not wanted.forward_signals:
            raise Failure(signals.EXIT_BASE + number)
        try:
            if number == _signal.SIGWINCH and wanted.tty:
                resize()
            else:
                client.containers.kill(container, str(number))
        except errors.BarqueError:
            pass  # it has ended meanwhile

    return converse(stream, early, wanted, caught, resize, on_signal)


def converse(
    stream: Stream,
    early: bytes,
    wanted: Wanted,
    caught: signals.Signals | None,
    resize: Callable[[], None],
    on_signal: Callable[[int], None],
) -> bool:
    """The conversation, with the terminal raw while it lasts; True when the user has detached."""
    keys = b""
    raw = wanted.tty and wanted.stdin and terminal.is_terminal(terminal.STDIN)
    if raw:
        keys = detach_sequence(wanted.detach_keys)
    if wanted.tty:
        try:
            resize()
        except errors.BarqueError:
            pass  # it has ended already, or its terminal is not there yet
    conversation = Conversation(
        stream,
        early,
        tty=wanted.tty,
        stdin=wanted.stdin,
        detach_keys=keys,
        signals=caught,
        on_signal=on_signal,
        outputs=wanted.stdout or wanted.stderr,
    )
    if not raw:
        return conversation.run()
    with terminal.Raw(terminal.STDIN):
        return conversation.run()
