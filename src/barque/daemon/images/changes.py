"""`--change` of import and commit: instructions of a Dockerfile applied to an image's config. Pure.

Known are those that only change the config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR. Variables are those of the config's own ENV.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from barque import errors
from barque.daemon import moments
from barque.daemon.containers import signals
from barque.daemon.images import words

Config = dict[str, Any]
SHELL = ["/bin/sh", "-c"]


def apply(config: Config, changes: Iterable[str]) -> Config:
    """A new config with `changes` made in order. Raises InvalidArgument for an unknown one."""
    result, text = dict(config), "\n".join(changes)
    lines = list(_lines(text))
    if text and not lines:
        raise errors.InvalidArgument("file with no instructions")
    for line in lines:
        _apply_line(result, line.strip())
    return result


def _lines(change: str) -> Iterator[str]:
    """Without comments; one that ends with a backslash goes on in the next."""
    begun = ""
    for line in change.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun += line.rstrip()
        if begun.endswith("\\"):
            begun = begun[:-1]
        else:
            yield begun
            begun = ""
    if begun.strip():
        yield begun


def _expanded(config: Config, text: str) -> str:
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return words.expanded(text, {name: value for name, _, value in pairs})


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
    if not all(isinstance(item, str) for item in decoded):
        raise errors.InvalidArgument(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return list(decoded)


def _command(text: str) -> list[str]:
    listed = _json_list(text)
    return listed if listed is not None else [*SHELL, text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _pairs(config: Config, instruction: str, text: str) -> list[tuple[str, str]]:
    """`a=b "c"=d`, or the older `a b`; variables have their values from before."""
    found = words.split(text)
    if "=" not in found[0]:
        if len(found) < 2:
            raise errors.InvalidArgument(f"{instruction} must have two arguments")
        found = [f"{found[0]}={text[len(found[0]) :].strip()}"]
    pairs = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals:
            raise errors.InvalidArgument(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        pairs.append((_expanded(config, name), _expanded(config, value)))
    if not all(name for name, _ in pairs):
        raise errors.InvalidArgument(f"{instruction} names can not be blank")
    return pairs


def _env(config: Config, text: str) -> None:
    entries = {entry.partition("=")[0]: entry for entry in config.get("Env") or ()}
    entries |= {name: f"{name}={value}" for name, value in _pairs(config, "ENV", text)}
    config["Env"] = list(entries.values())  # what was there keeps its place


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(config, "LABEL", text))}


def _port(word: str) -> list[str]:
    """Of `80`, `80-82/udp`, or what `--publish` takes, whose last part it is."""
    word = word.rpartition(":")[2]
    ports, _, protocol = word.partition("/")
    first, _, last = ports.partition("-")
    protocol = (protocol or "tcp").lower()
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise errors.InvalidArgument(f"invalid containerPort: {word}") from None
    if not 0 <= low <= high <= 65535 or protocol not in {"tcp", "udp", "sctp"}:
        raise errors.InvalidArgument(f"invalid containerPort: {word}")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _expose(config: Config, text: str) -> None:
    found = [part for word in words.split(text) for part in _expanded(config, word).split()]
    ports: dict[str, Any] = {port: {} for word in found for port in _port(word)}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volume(config: Config, text: str) -> None:
    listed = _json_list(text)
    paths = words.split(text) if listed is None else listed
    added: dict[str, Any] = {_expanded(config, path): {} for path in paths}
    if not added:
        raise errors.InvalidArgument("VOLUME requires at least one argument")
    if any(not path.strip() for path in added):
        raise errors.InvalidArgument("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **added}


def _user(config: Config, text: str) -> None:
    config["User"] = _expanded(config, text)


def _workdir(config: Config, text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(
        posixpath.join("/", config.get("WorkingDir") or "/", _expanded(config, text))
    )


def _stopsignal(config: Config, text: str) -> None:
    config["StopSignal"] = signal = _expanded(config, text)
    signals.parse(signal)


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
    listed = _json_list(rest.strip())
    test = ["CMD-SHELL", rest.strip()] if listed is None else ["CMD", *listed]
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
