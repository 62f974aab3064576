"""A container's log options as the shim takes them."""

from __future__ import annotations

import re

import msgspec

from barque.daemon.containers.record import Record
from barque.daemon.containers.validate import go_bool, size_bytes

LOCAL_DEFAULTS = {"max-size": "20m", "max-file": "5", "compress": "true"}
"""Docker's, for the driver `local`; json-file is neither rotated nor packed."""


def shim_options(record: Record) -> dict[str, str]:
    """`max-size`, `max-file`, `compress` and `labels` of docs/boundaries.md, section 3."""
    driver, config = record.host.log_config.type, dict(record.host.log_config.config)
    if driver == "local":
        config = LOCAL_DEFAULTS | config
    result = {}
    if "max-size" in config and (size := size_bytes(config["max-size"])) > 0:
        result["max-size"] = str(size)
    if "max-file" in config:
        result["max-file"] = config["max-file"]
    if go_bool(config.get("compress", "false")):
        result["compress"] = "1"
    if driver == "json-file" and (attributes := line_attributes(record)):
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
