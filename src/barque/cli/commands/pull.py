"""`barque pull`: an image from a registry."""

from __future__ import annotations

import os

from barque import errors
from barque.cli import terminal
from barque.cli.pulling import pull
from barque.cli.references import Reference
from barque.cli.session import refuse_trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NAME[:TAG|@DIGEST]"
SUMMARY = "Fetch an image from a registry"
ALIASES = ("image pull", "pull")
OPTIONS: tuple[Row, ...] = (
    ("all-tags", "a", "bool", "Every tag of the repository"),
    ("disable-content-trust", "", "bool", "Skip the verification of the image", "true"),
    ("platform", "", "string", "Platform, where the image has several"),
    ("quiet", "q", "bool", "Print only the name of the image"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    refuse_trust(options)
    reference = Reference(arguments[0])
    all_tags, quiet = options.flag("all-tags"), options.flag("quiet")
    named = reference.tag or reference.digest
    if all_tags and named:
        raise errors.InvalidArgument("tag can't be used with --all-tags/-a")
    if not named and not all_tags:
        reference.tag = "latest"
        if not quiet:
            terminal.out("Using default tag: latest\n")
    platform = options.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    fd = -1 if quiet else terminal.STDOUT
    pull(session, arguments[0], platform=platform, fd=fd, all_tags=all_tags)
    terminal.out(f"{reference.full}\n")
    return 0
