"""`barque rmi`: remove names of images, and images without a name."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [IMAGE...]"
SUMMARY = "Remove images"
ALIASES = ("image rm", "image remove", "rmi")
OPTIONS: tuple[Row, ...] = (
    ("force", "f", "bool", "Remove even what is in use or has several names"),
    ("no-prune", "", "bool", "Keep parents without a name"),
    ("platform", "", "stringSlice", "Only what an image has for these platforms"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if "platform" in options:
        session.require("platform", "1.50")
    force = options.flag("force")
    failures, fatal = [], False
    for name in arguments:
        try:
            done = session.client.images.remove(
                name,
                force=force,
                prune=not options.flag("no-prune"),
                platforms=options.all("platform"),
            )
        except errors.BarqueError as error:
            failures.append(str(error))
            fatal = fatal or not isinstance(error, errors.NotFound)
            continue
        for item in done:
            word = "Deleted" if "Deleted" in item else "Untagged"
            terminal.out(f"{word}: {item[word]}\n")
    if failures:
        terminal.err("\n".join(failures) + "\n")
    return 1 if fatal or (failures and not force) else 0
