"""`barque images`: list images."""

from __future__ import annotations

from barque import errors
from barque.cli import tables, terminal, units
from barque.cli.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [REPOSITORY[:TAG]]"
SUMMARY = "List images"
ALIASES = ("image ls", "image list", "images")
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Show intermediate images too"),
    ("digests", "", "bool", "Show the digests"),
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("no-trunc", "", "bool", "Print everything in full"),
    ("quiet", "q", "bool", "Print only the ids"),
    ("tree", "", "bool", "Show the platforms of each image too"),
)
ARGUMENTS = (0, 1)

NONE = "<none>"
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
DIGEST_COLUMNS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
_RAW = (
    "repository: {{.Repository}}\ntag: {{.Tag}}\n%simage_id: {{.ID}}\n"
    "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    tree = options.flag("tree")
    if tree:
        _check_alone(options)
    filters: dict[str, list[str]] = {}
    if "filter" in options:
        from barque.cli.filters import parse

        filters = parse(options)
    if arguments:
        filters.setdefault("reference", []).append(arguments[0])
    found = session.client.images.list(all=options.flag("all"), filters=filters, manifests=tree)
    full, digests = options.flag("no-trunc"), options.flag("digests")
    if tree:
        from barque.cli import image_tree

        image_tree.show(found, full)
        return 0
    format = session.format(options, "imagesFormat")
    items = list(rows(found, digests or ".Digest" in format))
    if options.flag("quiet") and format in ("", "table"):
        ids = (_id(row, full) for row in items)
        terminal.out("".join(f"{text}\n" for text in ids))
        return 0
    columns = DIGEST_COLUMNS if digests else COLUMNS
    if format == "raw":
        format = _RAW % ("digest: {{.Digest}}\n" if digests else "")
    tables.show(items, fields(full), columns, format, kind="formatter.imageContext")
    return 0


def _check_alone(options: Options) -> None:
    for name in ("quiet", "format", "digests"):
        if name in options:
            raise errors.InvalidArgument(f"--tree cannot be used with --{name}")


def rows(found: list[dict[str, Any]], digests: bool) -> Iterator[dict[str, Any]]:
    """One for each name of an image, and with `digests` for each digest of its repository."""
    for image in found:
        names = [_split(text) for text in image.get("RepoTags") or () if text != "<none>:<none>"]
        known = [text.split("@", 1) for text in image.get("RepoDigests") or ()]
        known = [pair for pair in known if pair[0] != NONE]
        for repository in dict.fromkeys([name[0] for name in names] + [pair[0] for pair in known]):
            tags = [tag for name, tag in names if name == repository]
            of_it = [digest for name, digest in known if name == repository]
            for tag in tags or [NONE]:
                for digest in (of_it if digests else of_it[:1]) or [NONE]:
                    shown = digest if digests else NONE
                    if not digests and not tags and of_it:
                        shown = NONE
                    yield {**image, "name": repository, "tag": tag, "digest": shown}
        if not names and not known:
            yield {**image, "name": NONE, "tag": NONE, "digest": NONE}


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _id(image: dict[str, Any], full: bool) -> str:
    return str(image["Id"]) if full else short_id(image["Id"])


def _count(value: int) -> str:
    return "N/A" if value == -1 else str(value)


def _bytes(value: int) -> str:
    return "N/A" if value == -1 else units.size(value)


def _unique(image: dict[str, Any]) -> str:
    size, shared = image.get("Size", -1), image.get("SharedSize", -1)
    return "N/A" if -1 in (size, shared) else units.size(size - shared)


def fields(full: bool) -> tables.Fields:
    return {
        "ID": ("IMAGE ID", lambda i: _id(i, full)),
        "Repository": ("REPOSITORY", lambda i: str(i["name"])),
        "Tag": ("TAG", lambda i: str(i["tag"])),
        "Digest": ("DIGEST", lambda i: str(i["digest"])),
        "CreatedSince": ("CREATED", lambda i: _since(i)),
        "CreatedAt": ("CREATED AT", lambda i: units.local_time(i["Created"])),
        "Size": ("SIZE", lambda i: units.size(i["Size"])),
        "Containers": ("CONTAINERS", lambda i: _count(i.get("Containers", -1))),
        "SharedSize": ("SHARED SIZE", lambda i: _bytes(i.get("SharedSize", -1))),
        "UniqueSize": ("UNIQUE SIZE", _unique),
        "VirtualSize": ("SIZE", lambda i: units.size(i.get("VirtualSize") or i["Size"], 4)),
    }


def _since(image: dict[str, Any]) -> str:
    return units.ago(image["Created"]) if image["Created"] > 0 else "N/A"
