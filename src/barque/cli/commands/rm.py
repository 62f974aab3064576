"""`barque rm`: remove containers."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.each import AT_ONCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Remove containers"
ALIASES = ("container rm", "container remove", "rm")
OPTIONS: tuple[Row, ...] = (
    ("force", "f", "bool", "Kill the container first when it runs"),
    ("link", "l", "bool", "Remove the link of this name"),
    ("volumes", "v", "bool", "Remove its anonymous volumes too"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    containers = session.client.containers
    force = options.flag("force")
    names = [name.strip("/") if name.strip("/") else name for name in arguments]
    code = 0
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        sent = [
            containers.remove(
                name, force=force, volumes=options.flag("volumes"), link=options.flag("link")
            )
            for name in batch
        ]
        for name, finish in zip(batch, sent, strict=True):
            try:
                finish().read()
                terminal.out(f"{name}\n")
            except errors.BarqueError as error:
                terminal.err(f"{error}\n")
                if not (force and isinstance(error, errors.NotFound)):
                    code = 1
    return code
