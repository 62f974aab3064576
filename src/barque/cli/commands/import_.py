"""`barque import`: an image of one layer from the archive of a file system."""

from __future__ import annotations

import os

from barque.cli import progress, terminal
from barque.cli.commands.load import open_file, pieces
from barque.cli.references import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]"
SUMMARY = "Make an image from the archive of a file system"
ALIASES = ("image import", "import")
OPTIONS: tuple[Row, ...] = (
    ("change", "c", "list", "Apply this Dockerfile instruction to the image"),
    ("message", "m", "string", "Message in the history of the image"),
    ("platform", "", "string", "Platform of the image"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    source = arguments[0]
    repository = tag = ""
    if len(arguments) > 1:
        reference = Reference(arguments[1])
        repository, tag = reference.familiar_name, reference.tag
    content: Iterator[bytes] | None = None
    if source == "-":
        content = pieces(terminal.STDIN)
    elif not source.startswith(("http://", "https://")):
        source, content = "-", pieces(open_file(source))
    documents = session.client.images.import_(
        source,
        content,
        repository=repository,
        tag=tag,
        message=options.text("message"),
        changes=options.all("change"),
        platform=options.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )
    progress.show(documents, terminal.STDOUT)
    return 0
