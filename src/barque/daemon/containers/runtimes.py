"""What `--runtime` may name: daemon.json's `runtimes`, and any shim by its own name.

    {"path": PROGRAM, "runtimeArgs": [...]}     an OCI runtime below our shim
    {"runtimeType": "io.containerd.NAME.VERSION", "options": {...}}     another shim
    io.containerd.NAME.VERSION                  the same, without being configured

containerd finds a shim as the program `containerd-shim-NAME-VERSION` in its PATH. A runtime with
arguments is called through a script that adds them, as dockerd does it: a shim gives its runtime
none but its own. daemon.json's fields: Docker's documentation of dockerd, "alternative runtimes".
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.containers.host import OUR_SHIM, Runtime

RUNC_SHIM = "io.containerd.runc.v2"
OPTIONS = {  # of runc's shim: its option's name and ours, with its type
    "BinaryName": ("binary", str),
    "Root": ("root", str),
    "SystemdCgroup": ("systemd_cgroup", bool),
    "NoPivotRoot": ("no_pivot_root", bool),
    "NoNewKeyring": ("no_new_keyring", bool),
}
_SHIM = re.compile(r"io\.containerd\.([\w-]+)\.(v\d+)", re.ASCII)


def parse(name: str, value: Any, scripts: Path, *, systemd_cgroup: bool) -> Runtime:
    """One entry of `runtimes`. Raises InvalidArgument that names it."""
    if not isinstance(value, dict):
        raise _refused(name, "expected an object with a path or a runtimeType")
    unknown = set(value) - {"path", "runtimeArgs", "runtimeType", "options"}
    if unknown == {"args"} and value["args"] == []:  # some installers write this, and mean nothing
        unknown = set()
    if unknown:
        raise _refused(name, f"unknown: {', '.join(sorted(unknown))}")
    path, kind = value.get("path", ""), value.get("runtimeType", "")
    if not isinstance(path, str) or not isinstance(kind, str) or bool(path) == bool(kind):
        raise _refused(name, "expected either a path or a runtimeType")
    arguments, options = value.get("runtimeArgs") or [], value.get("options") or {}
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        raise _refused(name, "runtimeArgs: expected a list of strings")
    if kind and arguments:
        raise _refused(name, "runtimeArgs cannot be used with a runtimeType")
    if path and options:
        raise _refused(name, "options cannot be used with a path")
    if kind:
        return _shim(name, kind, options, systemd_cgroup)
    binary = str(script_of(scripts, path, arguments)) if arguments else path
    return Runtime(binary=binary, systemd_cgroup=systemd_cgroup)


def _shim(name: str, kind: str, options: Any, systemd_cgroup: bool) -> Runtime:
    if not is_shim(kind):
        raise _refused(name, f"runtimeType {kind!r} is not like {RUNC_SHIM}")
    if not isinstance(options, dict):
        raise _refused(name, "options: expected an object")
    known = OPTIONS if kind in (RUNC_SHIM, OUR_SHIM) else {}
    settings: dict[str, Any] = {"systemd_cgroup": systemd_cgroup} if known else {}
    for key, value in options.items():
        field, wanted = known.get(key, ("", object))
        if not field:
            raise _refused(name, f"options: {key} is not there for {kind}")
        if not isinstance(value, wanted):
            raise _refused(name, f"options: {key}: expected a {wanted.__name__}")
        settings[field] = value
    return Runtime(type=kind, **settings)


def _refused(name: str, text: str) -> errors.BarqueError:
    return errors.InvalidArgument(f"runtimes: {name}: {text}")


def is_shim(name: str) -> bool:
    return _SHIM.fullmatch(name) is not None


def find(configured: Mapping[str, Runtime], name: str) -> Runtime:
    """Raises InvalidArgument, in dockerd's words, for what is neither configured nor a shim."""
    if (found := configured.get(name)) is not None:
        return found
    match = _SHIM.fullmatch(name)
    ours = name == OUR_SHIM
    if match is None or not (ours or shutil.which(f"containerd-shim-{match[1]}-{match[2]}")):
        raise errors.InvalidArgument(f"unknown or invalid runtime name: {name}")
    systemd = ours or name == RUNC_SHIM
    return Runtime(
        type=name, systemd_cgroup=systemd and any(r.systemd_cgroup for r in configured.values())
    )


def script_of(scripts: Path, path: str, arguments: list[str]) -> Path:
    """Named by its content: a container that runs keeps the one it was started with."""
    return scripts / hashlib.sha256(_script(path, arguments)).hexdigest()[:16]


def _script(path: str, arguments: list[str]) -> bytes:
    return f'#!/bin/sh\nexec {shlex.join([path, *arguments])} "$@"\n'.encode()


def write_scripts(scripts: Path, configured: Mapping[str, Any]) -> None:
    """Make the scripts of all entries with arguments, each at once whole. Idempotent."""
    for value in configured.values():
        arguments = isinstance(value, dict) and value.get("runtimeArgs")
        if not arguments:
            continue
        target = script_of(scripts, value["path"], arguments)
        fresh = target.with_suffix(".new")
        fresh.write_bytes(_script(value["path"], arguments))
        fresh.chmod(0o700)
        os.replace(fresh, target)
