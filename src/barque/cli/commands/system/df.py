"""`barque system df`: what the engine takes on the disk, and how much of it can be had back."""

from __future__ import annotations

from barque.cli import tables, terminal, units
from barque.cli.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

    Document = dict[str, Any]

USAGE = "[OPTIONS]"
SUMMARY = "Show what the engine takes on the disk"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("verbose", "v", "bool", "Show every object"),
)
ARGUMENTS = (0, 0)

IMAGE_COLUMNS = (
    *("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize"),
    "Containers",
)
CONTAINER_COLUMNS = (
    *("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
)
ACTIVE = ("running", "paused", "restarting")
COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
FIELDS: tables.Fields = {
    "Type": ("TYPE", lambda row: row["type"]),
    "TotalCount": ("TOTAL", lambda row: str(row["total"])),
    "Active": ("ACTIVE", lambda row: str(row["active"])),
    "Size": ("SIZE", lambda row: units.size(row["size"], 4)),
    "Reclaimable": ("RECLAIMABLE", lambda row: _reclaimable(row)),
}


def run(session: Session, options: Options, arguments: list[str]) -> int:
    usage = _whole(session.client.request("GET", "/system/df", (("verbose", "1"),)).json())
    format = options.text("format")
    if options.flag("verbose"):
        _verbose(usage, format)
        return 0
    rows = [_images(usage), _containers(usage), _volumes(usage), _build(usage)]
    tables.show(rows, FIELDS, COLUMNS, format, kind="formatter.diskUsageContext")
    return 0


def _whole(usage: Document) -> Document:
    """As it was told until API 1.51: since then the items are in the sums."""
    for name, items in (
        ("ImageUsage", "Images"),
        ("ContainerUsage", "Containers"),
        ("VolumeUsage", "Volumes"),
        ("BuildCacheUsage", "BuildCache"),
    ):
        if name in usage:
            usage[items] = usage[name].get("Items") or []
    if "ImageUsage" in usage:
        usage["LayersSize"] = usage["ImageUsage"].get("TotalSize") or 0
    return usage


def _reclaimable(row: Document) -> str:
    text = units.size(row["reclaimable"], 4)
    if row["size"] > 0 and row["type"] != "Build Cache":
        text += f" ({row['reclaimable'] * 100 // row['size']}%)"
    return text


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> Document:
    return {
        "type": kind,
        "total": total,
        "active": active,
        "size": size,
        "reclaimable": reclaimable,
    }


def _images(usage: Document) -> Document:
    images = usage.get("Images") or []
    used = [image for image in images if image["Containers"]]
    own = [i["Size"] - i["SharedSize"] for i in used if -1 not in (i["Size"], i["SharedSize"])]
    total = usage.get("LayersSize") or 0
    return _row("Images", len(images), len(used), total, total - sum(own))


def _containers(usage: Document) -> Document:
    containers = usage.get("Containers") or []
    idle = [c for c in containers if not any(word in c["State"] for word in ACTIVE)]
    size, free = (sum(c.get("SizeRw") or 0 for c in some) for some in (containers, idle))
    return _row("Containers", len(containers), len(containers) - len(idle), size, free)


def _volumes(usage: Document) -> Document:
    volumes = usage.get("Volumes") or []
    sizes = [v["UsageData"] for v in volumes if (v.get("UsageData") or {}).get("Size", -1) != -1]
    active = sum((v.get("UsageData") or {}).get("RefCount", 0) > 0 for v in volumes)
    free = sum(data["Size"] for data in sizes if data["RefCount"] == 0)
    return _row("Local Volumes", len(volumes), active, sum(data["Size"] for data in sizes), free)


def _build(usage: Document) -> Document:
    records = usage.get("BuildCache") or []
    own = [record for record in records if not record.get("Shared")]
    size = sum(record["Size"] for record in own)
    busy = [record for record in records if record.get("InUse")]
    held = sum(record["Size"] for record in own if record.get("InUse"))
    return _row("Build Cache", len(records), len(busy), size, size - held)


def _verbose(usage: Document, format: str) -> None:
    if format:
        from barque.cli.inspection import formatted

        terminal.out(formatted(format, _VerboseView(usage) if format != "json" else usage))
        return
    from barque.cli.commands import images, ps

    terminal.out("Images space usage:\n\n")
    rows = [next(images.rows([image], False)) for image in usage.get("Images") or ()]
    tables.show(rows, {**images.fields(False), **IMAGE_SIZES}, IMAGE_COLUMNS, "", kind="")
    terminal.out("\nContainers space usage:\n\n")
    own = [{**c, "SizeRootFs": 0} for c in usage.get("Containers") or []]
    tables.show(own, ps.fields(False), CONTAINER_COLUMNS, "", kind="")
    terminal.out("\nLocal Volumes space usage:\n\n")
    found = usage.get("Volumes") or []
    tables.show(found, VOLUME_FIELDS, ("Name", "Links", "Size"), "", kind="")
    size = units.size(_build(usage)["size"], 4)
    terminal.out(f"\nBuild cache usage: {size}\n\n")
    tables.show(usage.get("BuildCache") or [], CACHE_FIELDS, tuple(CACHE_FIELDS), "", kind="")


class _VerboseView:
    """What a template of `-v` sees."""

    kind = "formatter.diskUsageContext"

    def __init__(self, usage: Document) -> None:
        self._usage = usage

    def template_field(self, name: str) -> Any:
        return self._usage.get(name) or []


IMAGE_SIZES: tables.Fields = {
    "SharedSize": ("SHARED SIZE", lambda i: units.size(i["SharedSize"], 4)),
    "UniqueSize": ("UNIQUE SIZE", lambda i: units.size(i["Size"] - i["SharedSize"], 4)),
}
VOLUME_FIELDS: tables.Fields = {
    "Name": ("VOLUME NAME", lambda v: str(v["Name"])),
    "Links": ("LINKS", lambda v: str((v.get("UsageData") or {}).get("RefCount", "N/A"))),
    "Size": ("SIZE", lambda v: units.size((v.get("UsageData") or {}).get("Size", 0), 4)),
}
CACHE_FIELDS: tables.Fields = {
    "ID": ("CACHE ID", lambda r: short_id(r["ID"])),
    "CacheType": ("CACHE TYPE", lambda r: str(r["Type"])),
    "Size": ("SIZE", lambda r: units.size(r["Size"], 4)),
    "CreatedSince": ("CREATED", lambda r: str(r["CreatedAt"])),
    "LastUsedSince": ("LAST USED", lambda r: str(r.get("LastUsedAt") or "")),
    "UsageCount": ("USAGE", lambda r: str(r["UsageCount"])),
    "Shared": ("SHARED", lambda r: str(bool(r["Shared"])).lower()),
}
