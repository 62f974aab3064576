"""Lists as tables, as JSON lines, or through a template: what every `ls` does with what it has got.

Columns are as wide as their widest cell and three spaces more, ten at least; the last has no
padding.
"""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # name in templates -> (heading, the text for one item)
    Fields = dict[str, tuple[str, Callable[[Any], Any]]]

PADDING = 3
MIN_WIDTH = 10


def table(rows: list[list[str]], least: int = MIN_WIDTH) -> str:
    """Lines of cells, aligned. Columns are those of the first line."""
    if not rows:
        return ""
    count = len(rows[0])
    widths = [
        max(least, max(len(row[n]) for row in rows if n < len(row)) + PADDING)
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

    def template_field(self, name: str) -> Any:
        """Raises KeyError."""
        return self._fields[name][1](self._item)

    def template_method(self, name: str, *arguments: Any) -> str:
        """`.Label "key"`: one label. Raises KeyError for any other."""
        if name != "Label" or len(arguments) != 1:
            raise KeyError(name)
        return str((self._item.get("Labels") or {}).get(arguments[0], ""))

    def document(self) -> dict[str, Any]:
        return {name: self._fields[name][1](self._item) for name in sorted(self._fields)}


class Headings:
    """In place of an item, the headings."""

    __slots__ = ("_fields", "kind")

    def __init__(self, fields: Fields, kind: str) -> None:
        self._fields, self.kind = fields, kind

    def template_field(self, name: str) -> str:
        return self._fields[name][0]

    def template_method(self, name: str, *arguments: Any) -> str:
        """The heading of `.Label "key"` is the key."""
        if name != "Label" or len(arguments) != 1:
            raise KeyError(name)
        return str(arguments[0])


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
    from barque import errors
    from barque.cli import templates

    as_table = format.startswith("table")
    text = format.removeprefix("table").strip() if as_table else format
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    try:
        program = templates.parse(text)
    except errors.BarqueError as error:
        raise errors.InvalidArgument(f"failed to parse template: {error}") from None
    try:
        lines = [program.run(Headings(fields, kind))] if as_table else []
        lines += [program.run(Row(fields, item, kind)) for item in items]
    except errors.BarqueError as error:
        raise errors.InvalidArgument(f"failed to execute template: {error}") from None
    if as_table:
        terminal.out(table([line.split("\t") for line in lines]))
    else:
        terminal.out("".join(line + "\n" for line in lines))
