"""`barque image verify`: every byte of an image against its digest. Docker has none."""

from __future__ import annotations

from barque.cli import progress, terminal, units
from barque.cli.logins import registry_auth
from barque.cli.references import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [IMAGE...]"
SUMMARY = "Check every byte of images against its digest"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("quiet", "q", "bool", "Print only what is damaged"),
    ("repair", "", "bool", "Fetch what is damaged from the registry again"),
)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    """1 when something stays damaged."""
    quiet, repair, failed = options.flag("quiet"), options.flag("repair"), False
    for image in arguments:
        reports: list[dict[str, Any]] = []
        auth = registry_auth(session.settings, Reference(image).registry) if repair else ""
        documents = session.client.images.verify(image, repair=repair, auth=auth)
        progress.show(documents, -1 if quiet else terminal.STDOUT, reports.append)
        for report in reports:
            failed = _tell(image, report, quiet) or failed
    return 1 if failed else 0


def _tell(image: str, report: dict[str, Any], quiet: bool) -> bool:
    damaged = [("corrupt", digest) for digest in report["Corrupt"]]
    damaged += [("missing", digest) for digest in report["Missing"]]
    for kind, digest in damaged:
        terminal.err(f"{image}: {kind}: {digest}\n")
    if not quiet:
        count, size = report["Checked"], units.size(report["Bytes"])
        repaired = f", {len(report['Repaired'])} repaired" if report["Repaired"] else ""
        state = f"{len(damaged)} damaged" if damaged else "all sound"
        terminal.out(f"{image}: {count} parts, {size}: {state}{repaired}\n")
    return bool(damaged)
