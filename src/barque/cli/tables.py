"""Lists as tables, as JSON lines, or through a template: what every `ls` does with what it has got.

Columns are as wide as their widest cell and three spaces more, ten at least; the last is not padded.
"""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # name in templates -> (heading, the text for one item)
    Fields = dict[str, tuple[str, Callable[[Any], str]]]

PADDING = 3
MIN_WIDTH = 10


def table(rows: list[list[str]]) -> str:
    """Lines of cells, aligned. Columns are those of the first line."""
    if not rows:
        return ""
    count = len(rows[0])
    widths = [
        max(MIN_WIDTH, max(len(row[n]) for row in rows if n < len(row)) + PADDING)
        for n in range(count - 1)
    ]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        + (row[count - 1] if len(row) >= count else "")
        + "\n"
        for row in rows
    )


class Row:
    """One item as a template sees it: only the fields of its list."""

    __slots__ = ("_fields", "_item", "kind")

    def __init__(self, fields: Fields, item: Any, kind: str) -> None:
        self._fields, self._item, self.kind = fields, item, kind

    def template_field(self, name: str) -> str:
        """Raises KeyError."""
        return self._fields[name][1](self._item)

    def document(self) -> dict[str, str]:
        return {name: self._fields[name][1](self._item) for name in sorted(self._fields)}


class Headings:
    """In place of an item, the headings."""

    __slots__ = ("_fields", "kind")

    def __init__(self, fields: Fields, kind: str) -> None:
        self._fields, self.kind = fields, kind

    def template_field(self, name: str) -> str:
        return self._fields[name][0]


def show(
    items: Iterable[Any], fields: Fields, columns: Iterable[str], format: str, *, kind: str
) -> None:
    """Print `items`; `format` is "", "table", "json", "table TEMPLATE" or a template.

    `kind` names the items where a template asks for a field that they have not.
    """
    if format in ("", "table"):
        names = list(columns)
        rows = [[fields[name][0] for name in names]]
        rows += [[fields[name][1](item) for name in names] for item in items]
        terminal.out(table(rows))
        return
    if format == "json":
        format = "{{json .}}"
    _show_template(items, fields, format, kind)


def _show_template(items: Iterable[Any], fields: Fields, format: str, kind: str) -> None:
    from barque.cli import template

    as_table = format.startswith("table")
    text = format.removeprefix("table").strip() if as_table else format
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    program = template.parse(text)
    lines = []
    if as_table:
        lines.append(program.run(Headings(fields, kind)))
    lines += [program.run(Row(fields, item, kind)) for item in items]
    if as_table:
        terminal.out(table([line.split("\t") for line in lines]))
    else:
        terminal.out("".join(line + "\n" for line in lines))
