"""`barque rename`."""

from __future__ import annotations

from barque import errors
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER NEW_NAME"
SUMMARY = "Give a container another name"
ALIASES = ("container rename", "rename")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    old, new = (text.strip() for text in arguments)
    if not old or not new:
        raise errors.InvalidArgument("Error: Neither old nor new names may be empty")
    try:
        session.client.containers.rename(old, new)
    except errors.BarqueError as error:
        raise Failure(1, f"{error}\nError: failed to rename container named {old}") from None
    return 0
