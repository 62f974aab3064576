"""`barque export`: the file system of a container as an archive."""

from __future__ import annotations

from barque.cli import output_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER"
SUMMARY = "Write the file system of a container to an archive"
ALIASES = ("container export", "export")
OPTIONS: tuple[Row, ...] = (("output", "o", "string", "Write to this file in place of STDOUT"),)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    path = options.text("output")
    output_file.refuse_terminal(path)
    if path:
        output_file.check(path, "failed to export container")
    output_file.write(session.client.containers.export(arguments[0]), path)
    return 0
