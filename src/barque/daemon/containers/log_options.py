"""A container's log options as the shim takes them."""

from __future__ import annotations

import re

import msgspec

from barque.daemon.containers.record import Record
from barque.daemon.containers.validate import size_bytes


def shim_options(record: Record) -> dict[str, str]:
    """`max-size`, `max-file` and `labels` of docs/boundaries.md, section 3."""
    config = record.host.log_config.config
    result = {}
    if "max-size" in config and (size := size_bytes(config["max-size"])) > 0:
        result["max-size"] = str(size)
    if "max-file" in config:
        result["max-file"] = config["max-file"]
    if attributes := line_attributes(record):
        result["labels"] = msgspec.json.encode(attributes).decode()
    return result


def line_attributes(record: Record) -> dict[str, str]:
    """What each line carries: chosen labels, chosen variables, the tag. Docker's `attrs`."""
    config, result = record.host.log_config.config, {}
    wanted = set(config.get("labels", "").split(",")) - {""}
    for name, value in record.config.labels.items():
        if name in wanted:
            result[name] = value
    variables = set(config.get("env", "").split(",")) - {""}
    for item in record.config.env:
        name, _, value = item.partition("=")
        if name in variables:
            result[name] = value
    if tag := config.get("tag", ""):
        result["tag"] = _tag(tag, record)
    return result


def _tag(template: str, record: Record) -> str:
    """The names Docker's documentation lists for tags; any other stays as it is written."""
    names = {
        "ID": record.short_id,
        "FullID": record.id,
        "Name": record.name,
        "ImageID": record.image.removeprefix("sha256:")[:12],
        "ImageFullID": record.image,
        "ImageName": record.config.image,
        "DaemonName": "barque",
    }
    return re.sub(
        r"\{\{\s*\.(\w+)\s*\}\}", lambda match: names.get(match[1], match[0]), template[:1024]
    )
