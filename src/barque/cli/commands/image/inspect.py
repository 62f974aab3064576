"""`barque image inspect`."""

from __future__ import annotations

from barque.cli.inspection import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [IMAGE...]"
SUMMARY = "Describe images in full"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "f", "string", "Print with this template, or as 'json'"),
    ("platform", "", "string", "The image of this platform"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    platform, images = options.text("platform"), session.client.images
    if platform:
        session.require("platform", "1.49")

    def fetch(name: str) -> bytes:
        return images.inspect_raw(name, platform=platform)

    return show(arguments, fetch, options.text("format"))
