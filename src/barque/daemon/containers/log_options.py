"""A container's log options as the shim takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from barque.daemon.containers import log_tag
from barque.daemon.containers.record import Record
from barque.daemon.containers.validate_log import go_bool, size_bytes

LOCAL_DEFAULTS = {"max-size": "20m", "max-file": "5", "compress": "true"}
"""Docker's, for the driver `local`."""
JSON_DEFAULTS = {"max-size": "1g", "max-file": "3"}
"""Docker's json-file has no bound; ours has a generous one. `max-size=-1` takes it away."""
SPOOL_DEFAULTS = {"max-size": "20m", "max-file": "5"}
"""Docker's cache-max-size and cache-max-file, for drivers that send lines elsewhere."""
FILES = ("json-file", "local")
LOCAL = (*FILES, "none")


def stored_as(record: Record) -> str:
    """The form in which the log lies on the disk, "" where it does not."""
    driver = record.host.log_config.type
    if driver == "none":
        return ""
    return driver if driver in FILES else "json-file"


def readable(record: Record) -> bool:
    """Whether `logs` may show it. Docker's "dual logging": remote drivers keep a copy too."""
    disabled = record.host.log_config.config.get("cache-disabled", "false")
    return bool(stored_as(record)) and disabled not in {"true", "1"}


def shim_options(record: Record) -> dict[str, str]:
    """The log's options of docs/boundaries.md, section 3."""
    driver, config = record.host.log_config.type, dict(record.host.log_config.config)
    result = _mode(config)
    if driver == "local":
        config = LOCAL_DEFAULTS | config
    elif driver == "json-file":
        if "max-size" not in config:
            config = JSON_DEFAULTS | config
    else:
        kept = {name.removeprefix("cache-"): value for name, value in config.items()}
        config = SPOOL_DEFAULTS | {name: kept[name] for name in SPOOL_DEFAULTS if name in kept}
    if "max-size" in config and (size := size_bytes(config["max-size"])) > 0:
        result["max-size"] = str(size)
    if "max-file" in config:
        result["max-file"] = config["max-file"]
    if go_bool(config.get("compress", "false")):
        result["compress"] = "1"
    if driver == "json-file" and (attributes := line_attributes(record)):
        result["labels"] = msgspec.json.encode(attributes).decode()
    return result


def _mode(config: Mapping[str, str]) -> dict[str, str]:
    if config.get("mode") != "non-blocking":
        return {}
    size = size_bytes(config.get("max-buffer-size", "1m"))
    return {"mode": "non-blocking", "max-buffer-size": str(max(1, size))}


def line_attributes(record: Record) -> dict[str, str]:
    """What each line carries: chosen labels, chosen variables, the tag. Docker's `attrs`."""
    config, result = record.host.log_config.config, {}
    label_pattern, variable_pattern = (
        re.compile(text) if (text := config.get(f"{name}-regex")) else None
        for name in ("labels", "env")
    )
    wanted = set(config.get("labels", "").split(",")) - {""}
    for name, value in record.config.labels.items():
        if name in wanted or (label_pattern and label_pattern.search(name)):
            result[name] = value
    variables = set(config.get("env", "").split(",")) - {""}
    for item in record.config.env:
        name, _, value = item.partition("=")
        if name in variables or (variable_pattern and variable_pattern.search(name)):
            result[name] = value
    if (template := config.get("tag")) and (tag := log_tag.tag(template, record, result)):
        result["tag"] = tag
    return result


def tag_of(record: Record) -> str:
    """What the container's lines are called elsewhere."""
    attributes = line_attributes(record)
    attributes.pop("tag", None)
    return log_tag.tag(record.host.log_config.config.get("tag", ""), record, attributes)
