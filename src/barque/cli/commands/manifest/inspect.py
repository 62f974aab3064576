"""`barque manifest inspect`: a manifest or a list, the client's own or a registry's."""

from __future__ import annotations

from barque.cli import json_text, terminal
from barque.cli.manifest_lists import Lists, check_insecure, index_of, parse, raw_of, remote
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [MANIFEST_LIST] MANIFEST"
SUMMARY = "Describe a manifest or a manifest list"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("insecure", "", "bool", "Talk to a registry without TLS"),
    ("verbose", "v", "bool", "Show the descriptors and platforms too"),
)
ARGUMENTS = (1, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name, lists = parse(arguments[0]), Lists(session.config_directory)
    check_insecure(options.flag("insecure"), name)
    verbose = options.flag("verbose")
    if len(arguments) == 2:
        document = lists.get(name, parse(arguments[1]))
        _show(document if verbose else json.loads(raw_of(document)))
    elif own := lists.read(name):
        _show(own if verbose else index_of(own))
    else:
        found = remote(session, name)
        _show(found if verbose else json.loads(raw_of(found)))
    return 0


def _show(value: Any) -> None:
    terminal.out(json_text.indented(json.dumps(value)) + "\n")
