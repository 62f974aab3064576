"""`containerd oci-hook`: an OCI hook whose words are filled in from the container's state.

    containerd oci-hook -- /usr/bin/nvidia-container-cli configure --pid {{pid}} {{rootfs}}

The state is on the standard input, as the runtime gives it to hooks. Words and environment may
name `{{id}}`, `{{bundle}}`, `{{rootfs}}`, `{{pid}}`, `{{status}}` and `{{annotation "key"}}`.
Source: containerd, cmd/containerd/command/oci-hook.go (contrib/nvidia and ctr run --gpus use it).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from barque.errors import InvalidArgument

PLACE = re.compile(r"\{\{\s*(\w+)(?:\s+(?:\"([^\"]*)\"|`([^`]*)`))?\s*\}\}")


def run(words: Sequence[str], state: bytes, environment: dict[str, str]) -> NoReturn:
    """Become the program that `words` name, once they are filled in."""
    fill = filler(_object(state, "container state"))
    argv = [fill(word) for word in words]
    if not argv:
        raise InvalidArgument("oci-hook needs a program to run")
    os.execve(argv[0], argv, {name: fill(value) for name, value in environment.items()})


def filler(state: dict[str, Any]) -> Callable[[str], str]:
    """What fills in the places of a text. Raises InvalidArgument for one that is unknown."""
    bundle = str(state.get("bundle", ""))
    values = {
        "id": str(state.get("id", "")),
        "bundle": bundle,
        "pid": str(state.get("pid", 0)),
        "status": str(state.get("status", "")),
        "rootfs": _rootfs(bundle),
    }
    annotations = state.get("annotations") or {}

    def value(place: re.Match[str]) -> str:
        name = place[1]
        key = place[2] if place[2] is not None else place[3]
        if name == "annotation" and key is not None:
            return str(annotations.get(key, ""))
        if name not in values or key is not None:
            raise InvalidArgument(f"function {name!r} not defined in {place.string!r}")
        return values[name]

    def fill(text: str) -> str:
        filled = PLACE.sub(value, text)
        if "{{" in PLACE.sub("", text):
            raise InvalidArgument(f"{text!r} is no template of oci-hook")
        return filled

    return fill


def _rootfs(bundle: str) -> str:
    with open(f"{bundle}/config.json", "rb") as file:
        spec = _object(file.read(), f"{bundle}/config.json")
    root = spec.get("root") or {}
    return os.path.normpath(os.path.join(bundle, str(root.get("path", ""))))


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{what} is not a JSON object")
    return found
