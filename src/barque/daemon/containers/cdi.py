"""CDI: devices of vendors by name, as files on the host describe them.

Source: Container Device Interface specification 0.8; `--device vendor.com/class=name`, and
`--gpus`, which means the devices of a class `gpu`. The files are the administrator's and trusted;
they are read, JSON and YAML, at each start that asks for a device.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from barque import errors
from barque.daemon.containers.documents import DeviceRequest

SPEC_BYTES_MAX = 4 << 20
GPU_CLASS = "gpu"
Document = dict[str, Any]
_TYPES = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


class Device(NamedTuple):
    """`edits` are those of its whole kind, and then its own."""

    name: str  # vendor.com/class=name
    edits: tuple[Document, ...]


class Registry(NamedTuple):
    devices: Mapping[str, Device]

    @classmethod
    def read(cls, directories: Iterable[str]) -> Registry:
        """A file in a later directory counts more. Damaged files are left out."""
        devices: dict[str, Device] = {}
        for directory in directories:
            try:
                paths = sorted(Path(directory).iterdir())
            except OSError:
                continue
            for path in paths:
                if path.suffix in {".json", ".yaml"}:
                    devices.update((device.name, device) for device in _devices(path))
        return cls(devices)

    def find(self, names: Iterable[str]) -> list[Device]:
        """Raises InvalidArgument for those that are not there."""
        wanted = list(names)
        missing = [name for name in wanted if name not in self.devices]
        if missing:
            raise errors.InvalidArgument(
                f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}"
            )
        return [self.devices[name] for name in wanted]


def _devices(path: Path) -> list[Device]:
    try:
        with path.open("rb") as file:
            spec = _parsed(path, file.read(SPEC_BYTES_MAX))
        kind, common = str(spec["kind"]), spec.get("containerEdits") or {}
        return [
            Device(f"{kind}={item['name']}", (common, item.get("containerEdits") or {}))
            for item in spec["devices"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _parsed(path: Path, text: bytes) -> Any:
    """Raises ValueError."""
    if path.suffix == ".json":
        return json.loads(text)
    import yaml  # here: few machines have such a file, and each start of the daemon would pay

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML") from error


def resolve(requests: Sequence[DeviceRequest], directories: Iterable[str]) -> list[Device]:
    """Raises InvalidArgument in Docker's words for a request that nothing here can fulfil."""
    if not requests:
        return []
    registry = Registry.read(directories)
    found: list[Device] = []
    for request in requests:
        if request.driver == "cdi":
            found += registry.find(request.device_ids)
        else:
            found += registry.find(_gpus(request, registry))
    return found


def _gpus(request: DeviceRequest, registry: Registry) -> list[str]:
    """The names that `--gpus` means."""
    wants_gpu = any(GPU_CLASS in words for words in request.capabilities)
    kinds = sorted({n.partition("=")[0] for n in registry.devices if "/gpu=" in n})
    if request.driver:
        kinds = [kind for kind in kinds if kind.startswith(f"{request.driver}.")]
    if not wants_gpu or not kinds:
        wanted = " ".join(f"[{' '.join(words)}]" for words in request.capabilities)
        raise errors.InvalidArgument(
            f'could not select device driver "{request.driver}" with capabilities: [{wanted}]'
        )
    kind = kinds[0]
    if request.device_ids:
        return [f"{kind}={name}" for name in request.device_ids]
    if request.count >= 0:
        return [f"{kind}={number}" for number in range(request.count)]
    everything = f"{kind}=all"
    return (
        [everything]
        if everything in registry.devices
        else sorted(name for name in registry.devices if name.startswith(f"{kind}="))
    )


def apply(spec: Document, devices: Sequence[Device]) -> None:
    """Change config.json as the devices say. Raises InvalidArgument for a node that is none."""
    for device in devices:
        for edits in device.edits:
            _apply(spec, edits)


def _apply(spec: Document, edits: Mapping[str, Any]) -> None:
    process, linux = spec["process"], spec["linux"]
    names = {item.partition("=")[0] for item in edits.get("env") or ()}
    kept = [item for item in process.get("env") or () if item.partition("=")[0] not in names]
    process["env"] = [*kept, *(edits.get("env") or ())]
    for node in edits.get("deviceNodes") or ():
        made = _node(node)
        linux.setdefault("devices", []).append(made)
        rule = {key: made[key] for key in ("type", "major", "minor")}
        access = node.get("permissions") or "rwm"
        resources = linux.setdefault("resources", {})
        resources.setdefault("devices", []).append({"allow": True, **rule, "access": access})
    for mount in edits.get("mounts") or ():
        spec["mounts"].append(
            {
                "destination": mount["containerPath"],
                "type": mount.get("type") or "bind",
                "source": mount["hostPath"],
                "options": mount.get("options") or ["ro", "nosuid", "nodev", "rbind"],
            }
        )
    for hook in edits.get("hooks") or ():
        one = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
        spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(one)
    groups = [group for group in edits.get("additionalGids") or () if group]
    if groups:
        user = process["user"]
        user["additionalGids"] = sorted({*(user.get("additionalGids") or ()), *groups})


def _node(node: Mapping[str, Any]) -> Document:
    """A device node; what the file leaves out is that of the host's own."""
    path = node["path"]
    made: Document = {"path": path}
    if not (node.get("type") and node.get("major") is not None):
        source = node.get("hostPath") or path
        try:
            facts = os.stat(source)
            made["type"] = _TYPES[stat.S_IFMT(facts.st_mode)]
        except (OSError, KeyError):
            raise errors.InvalidArgument(
                f"CDI device injection failed: {source} is no device node of the host"
            ) from None
        made["major"], made["minor"] = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        made["fileMode"] = stat.S_IMODE(facts.st_mode)
    for key in ("type", "major", "minor", "fileMode", "uid", "gid"):
        if node.get(key) is not None:
            made[key] = node[key]
    return made
