"""`inspect`: the daemon's documents as they are, indented, or through a template."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TEMPLATE_EXIT = 64  # a template that cannot be read


def formatted(format: str, document: Any) -> str:
    """One document through a template (or "json"), with a line end. Raises Failure."""
    return program(format)(document) + "\n"


def program(format: str, seen_as: Callable[[Any], Any] | None = None) -> Callable[[Any], str]:
    """What prints one document; `seen_as` makes of it what the template works on."""
    if format == "json":
        from barque.cli.json_text import compact

        return compact
    from barque.cli import templates

    try:
        parsed = templates.parse(format)
    except errors.BarqueError as error:
        raise Failure(TEMPLATE_EXIT, f"template parsing error: {error}") from None

    def run(document: Any) -> str:
        try:
            return parsed.run(seen_as(document) if seen_as is not None else document)
        except errors.BarqueError as error:
            raise Failure(1, f"template parsing error: {error}") from None

    return run


def show(names: list[str], fetch: Callable[[str], bytes], format: str) -> int:
    """Each document that `fetch` finds; what it does not find is told at the end."""
    printed = program(format) if format else None
    found: list[bytes] = []
    failures: list[str] = []
    for name in names:
        try:
            found.append(fetch(name))
        except errors.BarqueError as error:
            failures.append(str(error))
    if printed is None:
        _print_list(found)
    elif not found:
        terminal.out("\n")
    else:
        for raw in found:
            try:
                terminal.out(printed(json.loads(raw)) + "\n")
            except Failure:
                terminal.out("\n")
                raise
    if failures:
        terminal.err("".join(f"{text}\n" for text in failures))
    return 1 if failures else 0


def _print_list(found: list[bytes]) -> None:
    from barque.cli.json_text import INDENT, indented

    if not found:
        terminal.out("[]\n")
        return
    items = (indented(raw.decode("utf-8", "replace").strip(), INDENT) for raw in found)
    terminal.out("[\n" + ",\n".join(INDENT + item for item in items) + "\n]\n")
