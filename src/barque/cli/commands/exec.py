"""`barque exec`: another command in a running container."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER COMMAND [ARG...]"
SUMMARY = "Run another command in a running container"
ALIASES = ("container exec", "exec")
OPTIONS: tuple[Row, ...] = (
    ("detach", "d", "bool", "Run in the background"),
    ("detach-keys", "", "string", "Keys that detach from the command"),
    ("env", "e", "list", "Set environment variables"),
    ("env-file", "", "list", "Read environment variables from a file"),
    ("interactive", "i", "bool", "Keep STDIN open"),
    ("privileged", "", "bool", "All privileges"),
    ("sig-proxy", "", "bool", "Send signals on to the command and what it started"),
    ("tty", "t", "bool", "Give it a terminal"),
    ("user", "u", "string", "User or UID (<name|uid>[:<group|gid>])"),
    ("workdir", "w", "string", "Working directory in the container"),
)
ARGUMENTS = (2, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    detach, tty = options.flag("detach"), options.flag("tty")
    stdin = options.flag("interactive") and not detach
    if stdin and tty and not terminal.is_terminal(terminal.STDIN):
        session.client.containers.inspect(arguments[0])  # a wrong name is told first
        raise Failure(1, "the input device is not a TTY")
    if options.flag("sig-proxy") and not detach:
        session.require_barque("--sig-proxy")
    execs = session.client.execs
    exec_id = execs.create(arguments[0], _body(session, options, arguments[1:], detach))
    if detach:
        execs.start_detached(exec_id)
        return 0
    if _attached(session, exec_id, options, tty=tty, stdin=stdin):
        raise Failure(1, "read escape sequence")
    return int(execs.inspect(exec_id)["ExitCode"] or 0)


def _body(session: Session, options: Options, command: list[str], detach: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"Cmd": command, "Tty": options.flag("tty")}
    if not detach:
        body |= {"AttachStdout": True, "AttachStderr": True}
        body["AttachStdin"] = options.flag("interactive")
    for flag, key in (("user", "User"), ("workdir", "WorkingDir")):
        if flag in options:
            body[key] = options.text(flag)
    if options.flag("privileged"):
        body["Privileged"] = True
    if keys := options.text("detach-keys") or (session.detach_keys if body["Tty"] else ""):
        body["DetachKeys"] = keys
    if "env" in options or "env-file" in options:
        from barque.cli.creating.environment import variables

        body["Env"] = variables(options)
    return body | _console(body["Tty"])


def _console(tty: bool) -> dict[str, Any]:
    rows, columns = terminal.size(terminal.STDOUT) if tty else (0, 0)
    return {"ConsoleSize": [rows, columns]} if rows and columns else {}


def _attached(session: Session, exec_id: str, options: Options, *, tty: bool, stdin: bool) -> bool:
    """Be the command's terminal; True when the user has detached."""
    from barque.cli import attachment, signals

    execs = session.client.execs
    stream, early, _ = execs.start(exec_id, {"Detach": False, "Tty": tty} | _console(tty))()
    forwarded = options.flag("sig-proxy")
    caught = None
    if forwarded:
        caught = signals.Signals(signals.FORWARDED)
    elif tty:
        caught = signals.Signals((_signal.SIGWINCH, *signals.ENDING))

    def resize() -> None:
        rows, columns = terminal.size(terminal.STDOUT)
        if rows and columns:
            execs.resize(exec_id, rows, columns)

    def on_signal(number: int) -> None:
        if number in signals.ENDING and not forwarded:
            raise Failure(signals.EXIT_BASE + number)
        try:
            if number != _signal.SIGWINCH:
                execs.kill(exec_id, str(number))
            elif tty:
                resize()
        except errors.BarqueError:
            pass  # the command has ended meanwhile

    wanted = attachment.Wanted(
        tty=tty, stdin=stdin, detach_keys=options.text("detach-keys") or session.detach_keys
    )
    return attachment.converse(stream, early, wanted, caught, resize, on_signal)
