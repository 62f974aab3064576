"""`barque push`: an image to a registry."""

from __future__ import annotations

from barque import errors
from barque.cli import progress, terminal
from barque.cli.logins import push_auth
from barque.cli.references import Reference
from barque.cli.session import refuse_trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NAME[:TAG]"
SUMMARY = "Send an image to a registry"
ALIASES = ("image push", "push")
OPTIONS: tuple[Row, ...] = (
    ("all-tags", "a", "bool", "Every tag of the repository"),
    ("disable-content-trust", "", "bool", "Skip the signing of the image", "true"),
    ("platform", "", "string", "Only the image of this platform"),
    ("quiet", "q", "bool", "Print only the name of the image"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    refuse_trust(options)
    reference = Reference(arguments[0])
    all_tags, quiet = options.flag("all-tags"), options.flag("quiet")
    if all_tags and (reference.tag or reference.digest):
        raise errors.InvalidArgument("tag can't be used with --all-tags/-a")
    if reference.digest:
        raise errors.InvalidArgument("cannot push a digest reference")
    if "platform" in options:
        session.require("platform", "1.46")
    if not all_tags and not reference.tag:
        reference.tag = "latest"
        if not quiet:
            terminal.out("Using default tag: latest\n")
    documents = session.client.images.push(
        reference.familiar_name,
        reference.tag,
        platform=options.text("platform"),
        auth=push_auth(session.settings, reference.registry),
    )
    notes: list[str] = []
    progress.show(documents, -1 if quiet else terminal.STDOUT, lambda aux: notes.extend(_left(aux)))
    if quiet:
        terminal.out(f"{reference.full}\n")
    terminal.err("".join(notes))
    return 0


def _left(aux: Any) -> list[str]:
    """What a push that left platforms behind says of it."""
    if not isinstance(aux, dict) or not aux.get("manifestPushedInsteadOfIndex"):
        return []
    index, chosen = (aux[key]["digest"] for key in ("originalIndex", "selectedManifest"))
    return [f"Not all platforms of {index} are here: only {chosen} was pushed\n"]
