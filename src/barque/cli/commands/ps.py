"""`barque ps`: list containers."""

from __future__ import annotations

from barque.cli import tables, units
from barque.cli.units import ellipsis, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "List containers"
ALIASES = ("container ls", "container list", "container ps", "ps")
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Show all containers, not only those that run"),
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("last", "n", "int", "Show the n newest containers, in any state", "-1"),
    ("latest", "l", "bool", "Show the newest container, in any state"),
    ("no-trunc", "", "bool", "Print everything in full"),
    ("quiet", "q", "bool", "Print only the ids"),
    ("size", "s", "bool", "Show the sizes"),
)
ARGUMENTS = (0, 0)

COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
_RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    format = session.format(options, "psFormat")
    limit = 1 if options.flag("latest") else options.number("last", -1)
    filters = None
    if "filter" in options:
        from barque.cli.filters import parse

        filters = parse(options)
    size = options.flag("size") or ".Size" in format or "json ." in format
    found = session.client.containers.list(
        all=options.flag("all"), limit=limit, size=size, filters=filters
    )
    full = options.flag("no-trunc")
    columns: tuple[str, ...] = COLUMNS
    if options.flag("quiet"):
        if format in ("", "table") or "format" not in options:
            format = "{{.ID}}"
    elif size and format in ("", "table"):
        columns = (*COLUMNS, "Size")
    if format == "raw":
        format = _RAW + ("size: {{.Size}}\n" if size else "")
    if format == "{{.ID}}":
        from barque.cli import terminal

        ids = [item["Id"] if full else short_id(item["Id"]) for item in found]
        terminal.out("".join(f"{text}\n" for text in ids))
        return 0
    tables.show(found, fields(full), columns, format, kind="formatter.ContainerContext")
    return 0


def fields(full: bool) -> tables.Fields:
    return {
        "ID": ("CONTAINER ID", lambda c: c["Id"] if full else short_id(c["Id"])),
        "Image": ("IMAGE", lambda c: _image(c, full)),
        "Command": ("COMMAND", lambda c: _command(c["Command"], full)),
        "CreatedAt": ("CREATED AT", lambda c: units.local_time(c["Created"])),
        "RunningFor": ("CREATED", lambda c: units.ago(c["Created"])),
        "Status": ("STATUS", lambda c: str(c["Status"])),
        "State": ("STATE", lambda c: str(c["State"])),
        "Ports": ("PORTS", lambda c: _ports(c.get("Ports"))),
        "Names": ("NAMES", lambda c: _names(c["Names"], full)),
        "Size": ("SIZE", _size),
        "Labels": ("LABELS", _labels),
        "LocalVolumes": ("LOCAL VOLUMES", _local_volumes),
        "Mounts": ("MOUNTS", lambda c: _mounts(c, full)),
        "Networks": ("NETWORKS", _networks),
        "Platform": ("PLATFORM", _platform),
    }


def _image(container: dict[str, Any], full: bool) -> str:
    image = str(container["Image"])
    if not image:
        return "<no image>"
    if full or not image.startswith("sha256:"):
        return image
    return short_id(image)


def _command(command: str, full: bool) -> str:
    return units.quoted(command if full else ellipsis(command, COMMAND_WIDTH))


def _names(names: list[str] | None, full: bool) -> str:
    """The container's own name, or with `full` those that links gave it too."""
    bare = [name.removeprefix("/") for name in names or ()]
    return ",".join(bare if full else [name for name in bare if "/" not in name][:1])


def _size(container: dict[str, Any]) -> str:
    text = units.size(container.get("SizeRw", 0))
    if total := container.get("SizeRootFs", 0):
        text += f" (virtual {units.size(total)})"
    return text


def _labels(container: dict[str, Any]) -> str:
    labels = container.get("Labels") or {}
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _local_volumes(container: dict[str, Any]) -> str:
    return str(sum(mount.get("Driver") == "local" for mount in container.get("Mounts") or ()))


def _mounts(container: dict[str, Any], full: bool) -> str:
    names = [mount.get("Name") or mount["Source"] for mount in container.get("Mounts") or ()]
    return ",".join(name if full else ellipsis(name, MOUNT_WIDTH) for name in names)


def _networks(container: dict[str, Any]) -> str:
    return ",".join(sorted((container.get("NetworkSettings") or {}).get("Networks") or {}))


def _platform(container: dict[str, Any]) -> Any:
    """Of newer daemons only."""
    return (container.get("ImageManifestDescriptor") or {}).get("platform")


def _ports(ports: list[dict[str, Any]] | None) -> str:
    if not ports:
        return ""
    from barque.cli.port_ranges import display

    return display(ports)
