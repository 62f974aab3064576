"""`barque context inspect`."""

from __future__ import annotations

from barque.cli.contexts.given import default
from barque.cli.contexts.store import ENDPOINT, IN_MEMORY, Contexts
from barque.cli.inspection import show
from barque.cli.json_text import compact, escaped
from barque.cli.session import DEFAULT_CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [CONTEXT] [CONTEXT...]"
SUMMARY = "Display detailed information on one or more contexts"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (("format", "f", "string", "Print with this template, or as 'json'"),)
ARGUMENTS = (0, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    contexts = Contexts(session.config_directory)
    names = arguments or [session.context]
    return show(names, lambda name: _document(session, contexts, name), options.text("format"))


def _document(session: Session, contexts: Contexts, name: str) -> bytes:
    if name == DEFAULT_CONTEXT:
        document, material = default(session), []
        paths = IN_MEMORY, IN_MEMORY
    else:
        document, material = contexts.read(name), sorted(contexts.tls(name))
        paths = contexts.metadata_path(name), contexts.tls_path(name)
    shown = {
        "Name": name,
        "Metadata": document.get("Metadata") or {},
        "Endpoints": document.get("Endpoints") or {},
        "TLSMaterial": {ENDPOINT: material} if material else {},
        "Storage": {"MetadataPath": paths[0], "TLSPath": paths[1]},
    }
    return escaped(compact(shown)).encode()
