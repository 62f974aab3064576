"""`barque registry gc`: remove what nothing in a registry leads to, also while it serves."""

from __future__ import annotations

import os

from barque.cli.commands.registry.serve import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Collect the garbage of a registry"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("grace", "", "int", "Seconds that unused blobs are kept", "3600"),
    ("root", "", "string", "Directory of the registry", '"/var/lib/barque/registry"'),
    ("untagged", "", "bool", "Manifests that no tag leads to go too"),
)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.program import command

    argv = command("barque-registry", "gc", *words(options, OPTIONS))
    os.execv(argv[0], argv)
