"""`barque save`: images as one archive."""

from __future__ import annotations

from barque.cli import output_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [IMAGE...]"
SUMMARY = "Write images to an archive"
ALIASES = ("image save", "save")
OPTIONS: tuple[Row, ...] = (
    ("output", "o", "string", "Write to this file in place of STDOUT"),
    ("platform", "", "stringSlice", "Only these platforms"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if "platform" in options:
        session.require("platform", "1.48")
    path = options.text("output")
    output_file.refuse_terminal(path)
    if path:
        output_file.check(path, "failed to save image")
    pieces = session.client.images.save(arguments, platforms=options.all("platform"))
    output_file.write(pieces, path)
    return 0
