"""`barque rm`: remove containers."""

from __future__ import annotations

from barque import errors
from barque.cli.each import each

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
    force, volumes, link = (options.flag(name) for name in ("force", "volumes", "link"))
    containers = session.client.containers
    return each(
        [name.strip("/") or name for name in arguments],
        lambda name: containers.begin_remove(name, force=force, volumes=volumes, link=link),
        forgiven=(errors.NotFound,) if force else (),
    )
