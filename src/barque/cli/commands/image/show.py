"""`barque image show`: what each layer of an image adds, changes and wastes. Docker has none."""

from __future__ import annotations

from barque.cli import tables, terminal, units
from barque.cli.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE"
SUMMARY = "Show what each layer of an image adds, changes and wastes"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("files", "", "bool", "Show every file too"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or all as 'json'"),
    ("no-trunc", "", "bool", "Print everything in full"),
)
ARGUMENTS = (1, 1)

COLUMNS = ("Layer", "Size", "Added", "Changed", "Removed", "Wasted", "CreatedBy")
CREATED_BY_CHARACTERS = 45
SIGNS = {"added": "A", "changed": "C", "removed": "D"}


def run(session: Session, options: Options, arguments: list[str]) -> int:
    files, full = options.flag("files"), options.flag("no-trunc")
    found = session.client.images.show(arguments[0], entries=files)
    format = options.text("format")
    if format == "json":
        from barque.client import json

        terminal.out(json.dumps(found) + "\n")
        return 0
    if files and not format:
        for layer in found["Layers"]:
            terminal.out(f"{layer['Digest']}\n" + "".join(_line(e) for e in layer["Entries"]))
    tables.show(found["Layers"], _fields(full), COLUMNS, format, kind="layer")
    if not format:
        share = f"{found['Efficiency'] * 100:.1f}%"
        size, wasted = units.size(found["Size"]), units.size(found["Wasted"])
        terminal.out(f"{size} in {len(found['Layers'])} layers, {wasted} wasted: {share} used\n")
    return 0


def _line(entry: dict[str, Any]) -> str:
    return f"  {SIGNS[entry['Change']]} {units.size(entry['Size']):>8} {entry['Path']}\n"


def _step(layer: dict[str, Any], full: bool) -> str:
    text = " ".join(str(layer["CreatedBy"]).split())
    if full or len(text) <= CREATED_BY_CHARACTERS:
        return text
    return text[: CREATED_BY_CHARACTERS - 1] + "…"


def _fields(full: bool) -> tables.Fields:
    return {
        "Layer": ("LAYER", lambda one: str(one["Digest"]) if full else short_id(one["Digest"])),
        "DiffID": ("DIFF ID", lambda one: str(one["DiffID"])),
        "BlobSize": ("BLOB SIZE", lambda one: units.size(one["BlobSize"])),
        "Size": ("SIZE", lambda one: units.size(one["Size"])),
        "Added": ("ADDED", lambda one: str(one["Added"])),
        "Changed": ("CHANGED", lambda one: str(one["Changed"])),
        "Removed": ("REMOVED", lambda one: str(one["Removed"])),
        "Wasted": ("WASTED", lambda one: units.size(one["Wasted"])),
        "CreatedBy": ("CREATED BY", lambda one: _step(one, full)),
    }
