"""`barque volume backup`: a volume as an archive. Docker has none."""

from __future__ import annotations

from barque.cli import output_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME"
SUMMARY = "Write a volume to an archive"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("output", "o", "string", "Write to this file in place of STDOUT"),
    ("pause", "p", "bool", "Pause the containers that use it meanwhile", "true"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    path = options.text("output")
    output_file.refuse_terminal(path)
    if path:
        output_file.check(path, "failed to back up volume")
    pause = options.flag("pause", default=True)
    output_file.write(session.client.volumes.backup(arguments[0], pause=pause), path)
    return 0
