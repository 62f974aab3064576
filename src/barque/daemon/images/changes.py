"""`--change` of import and commit: instructions of a Dockerfile applied to an image's config. Pure.

Known are those that only change the config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
"""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from barque import errors
from barque.daemon import moments

Config = dict[str, Any]
SHELL = ["/bin/sh", "-c"]


def apply(config: Config, changes: Iterable[str]) -> Config:
    """A new config with `changes` made in order. Raises InvalidArgument for an unknown one."""
    result = dict(config)
    for change in changes:
        for line in change.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                _apply_line(result, line.strip())
    return result


def _apply_line(config: Config, line: str) -> None:
    word, _, rest = line.partition(" ")
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        raise errors.InvalidArgument(f"{word.lower()} is not a valid change command")
    if not rest.strip():
        raise errors.InvalidArgument(f"{word.upper()} requires at least one argument")
    instruction(config, rest.strip())


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(decoded, list) and all(isinstance(item, str) for item in decoded)
    return decoded if is_list else None


def _command(text: str) -> list[str]:
    words = _json_list(text)
    return words if words is not None else [*SHELL, text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _pairs(instruction: str, text: str) -> list[tuple[str, str]]:
    """`a=b "c"=d`, or the older `a b`."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise errors.InvalidArgument(f"{instruction} must have two arguments")
        return [(first[0], first[1])]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise errors.InvalidArgument(f"{instruction} {text[:100]!r}: {error}".lower()) from None
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise errors.InvalidArgument(f"{instruction}: can't find = in {word!r}")
        pairs.append((name, value))
    return pairs


def _env(config: Config, text: str) -> None:
    entries = list(config.get("Env") or [])
    for name, value in _pairs("ENV", text):
        entries = [entry for entry in entries if entry.partition("=")[0] != name]
        entries.append(f"{name}={value}")
    config["Env"] = entries


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs("LABEL", text))}


def _port(word: str) -> list[str]:
    ports, _, protocol = word.partition("/")
    first, _, last = ports.partition("-")
    protocol = (protocol or "tcp").lower()
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise errors.InvalidArgument(f"invalid containerPort: {word}") from None
    if not 0 < low <= high <= 65535 or protocol not in {"tcp", "udp", "sctp"}:
        raise errors.InvalidArgument(f"invalid containerPort: {word}")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _expose(config: Config, text: str) -> None:
    ports: dict[str, Any] = {port: {} for word in text.split() for port in _port(word)}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volume(config: Config, text: str) -> None:
    paths = _json_list(text)
    added: dict[str, Any] = {path: {} for path in (paths if paths is not None else text.split())}
    if any(not path.strip() for path in added):
        raise errors.InvalidArgument("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **added}


def _user(config: Config, text: str) -> None:
    config["User"] = text


def _workdir(config: Config, text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(
        posixpath.join("/", config.get("WorkingDir") or "/", text)
    )


def _stopsignal(config: Config, text: str) -> None:
    config["StopSignal"] = text


def _onbuild(config: Config, text: str) -> None:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise errors.InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in {"FROM", "MAINTAINER"}:
        raise errors.InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


_HEALTH_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
MIN_HEALTH_NS = 1_000_000


def _healthcheck(config: Config, text: str) -> None:
    """`[--interval=..] [--timeout=..] [--start-period=..] [--retries=..] CMD ...`, or NONE."""
    options: dict[str, Any] = {}
    while text.startswith("--"):
        word, _, text = text.partition(" ")
        name, _, value = word[2:].partition("=")
        text = text.strip()
        options |= _health_option(name, value)
    word, _, rest = text.partition(" ")
    if word.upper() == "NONE":
        if rest or options:
            raise errors.InvalidArgument("HEALTHCHECK NONE takes no arguments")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not rest.strip():
        raise errors.InvalidArgument(f"HEALTHCHECK {text[:100]!r}: expected CMD or NONE")
    words = _json_list(rest.strip())
    test = ["CMD-SHELL", rest.strip()] if words is None else ["CMD", *words]
    config["Healthcheck"] = {"Test": test, **options}


def _health_option(name: str, value: str) -> dict[str, Any]:
    if name == "retries":
        if not value.isascii() or not value.isdigit() or not 0 < int(value) < 1 << 31:
            raise errors.InvalidArgument(f"HEALTHCHECK --retries: invalid number {value!r}")
        return {"Retries": int(value)}
    key, time_ns = _HEALTH_TIMES.get(name), moments.duration_ns(value)
    if key is None:
        raise errors.InvalidArgument(f"HEALTHCHECK: unknown flag: --{name}")
    if time_ns is None or (0 < time_ns < MIN_HEALTH_NS):
        raise errors.InvalidArgument(f"HEALTHCHECK --{name}: invalid duration {value!r}")
    return {key: time_ns}


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
