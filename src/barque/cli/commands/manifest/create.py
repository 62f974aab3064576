"""`barque manifest create`: a list of the manifests of several platforms, kept by the client."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.manifest_lists import INDEXES, Lists, check_insecure, parse, remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "MANIFEST_LIST MANIFEST [MANIFEST...]"
SUMMARY = "Make a manifest list, to be annotated and pushed"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("amend", "a", "bool", "Add to a list that is there"),
    ("insecure", "", "bool", "Talk to a registry without TLS"),
)
ARGUMENTS = (2, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name, lists = parse(arguments[0]), Lists(session.config_directory)
    check_insecure(options.flag("insecure"), name)
    if lists.read(name) and not options.flag("amend"):
        raise errors.InvalidArgument(
            "refusing to amend an existing manifest list with no --amend flag"
        )
    wanted = [parse(text) for text in arguments[1:]]
    found = [(one, remote(session, one)) for one in wanted]
    for one, document in found:
        if document["Descriptor"]["mediaType"] in INDEXES:
            raise errors.InvalidArgument(f"{one.full} is a manifest list")
    for one, document in found:
        lists.put(name, one, document)
    terminal.out(f"Created manifest list {name.full}\n")
    return 0
