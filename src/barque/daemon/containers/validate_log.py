"""Which log drivers and options a container may have, in Docker's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from barque.daemon.containers import log_tag
from barque.daemon.containers.documents import LogConfig
from barque.daemon.containers.host import Defaults
from barque.daemon.forwarding import drivers
from barque.daemon.forwarding.message import Source
from barque.errors import InvalidArgument, Unsupported

LOG_OPTIONS = {
    "json-file": frozenset({"max-size", "max-file", "compress", "labels", "env", "tag"})
    | {"labels-regex", "env-regex"},
    "local": frozenset({"max-size", "max-file", "compress"}),
    "none": frozenset[str](),
    **drivers.OPTIONS,
}
MODE_OPTIONS = frozenset({"mode", "max-buffer-size"})
_OTHERS = "awslogs splunk gcplogs etwlogs"
MAX_PATTERN_CHARS = 256
OTHER_LOG_DRIVERS = frozenset(_OTHERS.split())


def check_log(log: LogConfig, defaults: Defaults) -> None:
    driver = log.type or defaults.log_driver
    if driver in OTHER_LOG_DRIVERS:
        raise Unsupported(
            f"log driver {driver!r} is not there yet: use {', '.join(sorted(LOG_OPTIONS))}"
        )
    if driver not in LOG_OPTIONS:
        raise InvalidArgument(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found'
        )
    if driver == "none" and not log.type:
        return
    for name in log.config:
        if name not in LOG_OPTIONS[driver] and name not in MODE_OPTIONS:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
    _check_values(driver, log.config)
    if driver in drivers.OPTIONS:
        drivers.make(driver, log.config, NOBODY)
    count = log.config.get("max-file", log.config.get("cache-max-file"))
    if count is not None and not (count.isascii() and count.isdigit() and int(count[:6]) >= 1):
        raise InvalidArgument(f"max-file cannot be less than 1: {count}")
    _check_compression(driver, log.config)


NOBODY = Source("", "", "", "", "", "", "", "", {})  # a driver made for its refusals only


def _check_values(driver: str, config: Mapping[str, str]) -> None:
    for name in ("max-size", "max-buffer-size", "cache-max-size"):
        if name in config:
            size_bytes(config[name])
    if config.get("mode", "") not in {"", "blocking", "non-blocking"}:
        raise InvalidArgument(f"logger: logging mode not supported: {config['mode']}")
    if config.get("max-buffer-size") and config.get("mode") != "non-blocking":
        text = "max-buffer-size option is only supported with 'mode=non-blocking'"
        raise InvalidArgument(f"logger: {text}")
    log_tag.check(config.get("tag", ""))
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(config.get(name, "")[:MAX_PATTERN_CHARS])
        except re.error as error:
            raise InvalidArgument(f"invalid log option {name}: {error}") from None
        if len(config.get(name, "")) > MAX_PATTERN_CHARS:
            raise InvalidArgument(
                f"log option {name} is longer than {MAX_PATTERN_CHARS} characters"
            )


def _check_compression(driver: str, config: Mapping[str, str]) -> None:
    """Only what is rotated can be packed; the driver `local` does both unless told otherwise."""
    local = driver == "local"
    files = int(config.get("max-file", "5" if local else "1")[:6])
    sized = local or size_bytes(config.get("max-size", "-1")) > 0
    try:
        packed = go_bool(config.get("compress", "true" if local else "false"))
    except ValueError as error:
        raise InvalidArgument(f"error reading compress log option: {error}") from None
    if packed and local and files < 2:
        raise InvalidArgument("compression cannot be enabled when max file count is 1")
    if packed and not (files > 1 and sized):
        raise InvalidArgument(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )


def go_bool(text: str) -> bool:
    """As Go's strconv.ParseBool. Raises ValueError."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def size_bytes(text: str) -> int:
    """`10m` in bytes, -1 for no bound."""
    match = re.fullmatch(r"([0-9]{1,12})(?:\.[0-9]+)?\s*([kmgt]?)(i?b)?", text.strip().lower())
    if text == "-1":
        return -1
    if not match:
        raise InvalidArgument(f"invalid size: '{text}'")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]
