"""`barque manifest referrers`: what refers to an image at its registry. Docker has none."""

from __future__ import annotations

from barque.cli import tables, terminal, units
from barque.cli.logins import registry_auth
from barque.cli.manifest_lists import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE"
SUMMARY = "List what refers to an image at its registry: signatures, SBOMs, attestations"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("artifact-type", "", "string", "Only artifacts of this type"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or all as 'json'"),
)
ARGUMENTS = (1, 1)

COLUMNS = ("Digest", "ArtifactType", "Size")
FIELDS: tables.Fields = {
    "Digest": ("DIGEST", lambda one: str(one["digest"])),
    "ArtifactType": ("ARTIFACT TYPE", lambda one: str(one.get("artifactType", ""))),
    "MediaType": ("MEDIA TYPE", lambda one: str(one["mediaType"])),
    "Size": ("SIZE", lambda one: units.size(one["size"])),
    "Annotations": ("ANNOTATIONS", lambda one: one.get("annotations") or {}),
}


def run(session: Session, options: Options, arguments: list[str]) -> int:
    reference = parse(arguments[0])
    auth = registry_auth(session.settings, reference.registry)
    found = session.client.images.referrers(
        reference.full, artifact_type=options.text("artifact-type"), auth=auth
    )
    format = options.text("format")
    if format == "json":
        from barque.client import json

        terminal.out(json.dumps(found["Referrers"]) + "\n")
        return 0
    tables.show(found["Referrers"], FIELDS, COLUMNS, format, kind="referrer")
    return 0
