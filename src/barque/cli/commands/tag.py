"""`barque tag`: another name for an image."""

from __future__ import annotations

from barque import errors
from barque.cli.references import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
SUMMARY = "Give an image another name"
ALIASES = ("image tag", "tag")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    try:
        target = Reference(arguments[1])
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(
            f'Error parsing reference: "{arguments[1]}" is not a valid repository/tag: {error}'
        ) from None
    if target.digest:
        raise errors.InvalidArgument("refusing to create a tag with a digest reference")
    session.client.images.tag(arguments[0], target.familiar_name, target.tag or "latest")
    return 0
