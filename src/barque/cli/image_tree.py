"""`images --tree`: every image with its platforms below it."""

from __future__ import annotations

from barque.cli import tables, terminal, units
from barque.cli.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADINGS = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]
IN_USE = "U"
UNNAMED = "<untagged>"


def show(images: list[dict[str, Any]], full: bool) -> None:
    rows = [HEADINGS]
    for image in images:
        rows += _rows(image, full)
    terminal.out(tables.table(rows))


def _rows(image: dict[str, Any], full: bool) -> list[list[str]]:
    found = image.get("Manifests") or []
    shown = [one for one in found if one["Kind"] == "image"]
    total = sum(one["Size"]["Total"] for one in found)
    content = sum(one["Size"]["Content"] for one in found)
    used = any(one["ImageData"]["Containers"] for one in shown)
    names = image.get("RepoTags") or [UNNAMED]
    rows = [[names[0], _id(image["Id"], full), *_sizes(total, content), IN_USE * used]]
    rows += [[name, "", "", "", ""] for name in names[1:]]
    for number, one in enumerate(shown, start=1):
        branch = "└─ " if number == len(shown) else "├─ "
        platform = one["ImageData"]["Platform"]
        parts = (platform.get(name) for name in ("os", "architecture", "variant"))
        sizes = _sizes(one["Size"]["Total"], one["Size"]["Content"])
        users = IN_USE if one["ImageData"]["Containers"] else ""
        name = branch + "/".join(part for part in parts if part)
        rows.append([name, _id(one["ID"], full), *sizes, users])
    return rows


def _id(text: str, full: bool) -> str:
    return text if full else short_id(text)


def _sizes(total: int, content: int) -> tuple[str, str]:
    return units.size(total), units.size(content)
