"""`barque start`: start containers again; one of them may be attached."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Start containers that do not run"
ALIASES = ("container start", "start")
OPTIONS: tuple[Row, ...] = (
    ("attach", "a", "bool", "Attach STDOUT and STDERR, and send signals on"),
    ("checkpoint", "", "string", "Restore from this checkpoint (experimental)"),
    ("checkpoint-dir", "", "string", "Where the checkpoint is, instead of with the container"),
    ("detach-keys", "", "string", "Keys that detach from the container"),
    ("interactive", "i", "bool", "Attach STDIN"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if options.flag("attach") or options.flag("interactive"):
        if len(arguments) > 1:
            raise errors.InvalidArgument("you cannot start and attach multiple containers at once")
        return _attached(session, options, arguments[0])
    if options.text("checkpoint") and len(arguments) > 1:
        raise errors.InvalidArgument("you cannot restore multiple containers at once")
    failed = []
    for name in arguments:
        try:
            session.client.containers.start(name, **_saved(options))
            terminal.out(f"{name}\n")
        except errors.BarqueError as error:
            terminal.err(f"{error}\n")
            failed.append(name)
    if failed:
        raise Failure(1, f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _saved(options: Options) -> dict[str, str]:
    """What `start` is told of a checkpoint."""
    return {
        "checkpoint": options.text("checkpoint"),
        "checkpoint_dir": options.text("checkpoint-dir"),
    }


def _attached(session: Session, options: Options, name: str) -> int:
    from barque.cli import attachment

    described = session.client.containers.inspect(name)
    config = described["Config"]
    wanted = attachment.Wanted(
        tty=bool(config["Tty"]),
        stdin=options.flag("interactive") and bool(config["OpenStdin"]),
        detach_keys=options.text("detach-keys") or session.detach_keys,
        forward_signals=not config["Tty"],
    )
    return attachment.run(
        session.client,
        str(described["Id"]),
        wanted,
        removed=bool(described["HostConfig"].get("AutoRemove")),
        **_saved(options),
    )
