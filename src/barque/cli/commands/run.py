"""`barque run`: create, attach, wait and start a container, and be its terminal until it ends."""

from __future__ import annotations

from barque import errors
from barque.cli import creation, new_container, terminal
from barque.cli.container_options import RUN_OPTIONS
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"
SUMMARY = "Make a container from an image and run it"
ALIASES = ("container run", "run")
OPTIONS = RUN_OPTIONS
ARGUMENTS = (1, -1)

_NOT_FOUND = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
)
_NOT_EXECUTABLE = ("permission denied", "is a directory")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    detach = options.flag("detach")
    body = creation.body(options, arguments[0], arguments[1:], detach=detach)
    if options.flag("rm") and options.text("restart", "no") not in ("", "no"):
        raise errors.InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    if body.get("AttachStdin") and body.get("Tty") and not terminal.is_terminal(terminal.STDIN):
        raise Failure(1, "the input device is not a TTY")
    try:
        container = new_container.create(session, options, body)
        if any(body.get(f"Attach{name}") for name in ("Stdin", "Stdout", "Stderr")):
            return _attached(session, options, body, container)
        session.client.containers.start(container)
    except errors.BarqueError as error:
        raise failed_start(error) from None
    terminal.out(container + "\n")
    return 0


def _attached(session: Session, options: Options, body: dict[str, Any], container: str) -> int:
    from barque.cli import attachment

    if not (body.get("AttachStdout") or body.get("AttachStderr")):
        terminal.out(container + "\n")  # its output is elsewhere: this says where
    return attachment.run(
        session.client,
        container,
        attachment.Wanted(
            tty=bool(body.get("Tty")),
            stdin=bool(body.get("AttachStdin")),
            stdout=bool(body.get("AttachStdout")),
            stderr=bool(body.get("AttachStderr")),
            detach_keys=options.text("detach-keys") or session.detach_keys,
            forward_signals=options.flag("sig-proxy", True),
        ),
        removed=options.flag("rm"),
    )


def failed_start(error: errors.BarqueError) -> Failure:
    """A failure to create or start, with the exit code that tells what kind it is."""
    if isinstance(error, Failure):
        return error
    text = str(error)
    if any(words in text for words in _NOT_FOUND):
        return Failure(127, text)
    if any(words in text for words in _NOT_EXECUTABLE):
        return Failure(126, text)
    return Failure(125, text)
