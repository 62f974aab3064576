"""`barque manifest push`: a list that the client keeps goes to its registry."""

from __future__ import annotations

from barque import errors
from barque.cli import manifest_lists, terminal
from barque.cli.references import Reference
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] MANIFEST_LIST"
SUMMARY = "Send a manifest list to its registry"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("insecure", "", "bool", "Talk to a registry without TLS"),
    ("purge", "p", "bool", "Remove the list here once it is there"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name, lists = manifest_lists.parse(arguments[0]), manifest_lists.Lists(session.config_directory)
    manifest_lists.check_insecure(options.flag("insecure"), name)
    documents = lists.read(name)
    if not documents:
        raise errors.NotFound(f"No such manifest: {name.full}")
    raw = json.dumps(manifest_lists.index_of(documents)).encode()
    digest = manifest_lists.push(session, name, documents, raw)
    for document in documents:
        if Reference(document["Ref"]).repository != name.repository:
            pushed = document["Descriptor"]["digest"]
            where = f"{name.registry}/{name.repository}@{pushed}"
            terminal.out(f"Pushed ref {where} with digest: {pushed}\n")
    terminal.out(f"{digest}\n")
    if options.flag("purge"):
        lists.remove(name)
    return 0
