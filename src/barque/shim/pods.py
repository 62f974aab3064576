"""What a sandbox's first process is made from: the spec in its bundle, and what the request adds.

Source: runtime-spec, config.md; containerd, api/runtime/sandbox/v1/sandbox.proto.

    the spec names a program     it runs, in the request's rootfs
    it names none, or is absent  `barque.shim.pause` does, in a root of its own
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.oci import document
from barque.shim import paths, pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    Values = dict[str, Any]

CONFIG_BYTES_MAX: Final = 16 << 20
NETWORK: Final = "network"
NAMESPACES: Final = ("pid", "ipc", "uts", "mount", NETWORK)  # where no spec says
PROCESS: Final = {
    "args": [pause.PATH],
    "cwd": "/",
    "user": {"uid": 0, "gid": 0},
    "noNewPrivileges": True,
}
MOUNTS: Final = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
)


def described(bundle: str, namespace: str, request: Values) -> tuple[bytes, list[Values], bool]:
    """The sandbox's config.json, the mounts of its rootfs, and whether it is the pause program
    that will run.

    Raises InvalidArgument, and Unsupported where there is no program to run.
    """
    identity = request["sandbox_id"]
    spec = _given(bundle, identity)
    mounts = request["rootfs"]
    process = spec.get("process") or {}
    if not isinstance(process, dict):
        raise InvalidArgument(f"sandbox {identity}: the process of its spec is not an object")
    pauses = not process.get("args")
    if pauses:
        if mounts:
            raise InvalidArgument(f"sandbox {identity}: its spec names no program of its rootfs")
        mounts = [_root_of_pause(bundle)]
        spec = _with_pause(spec, process, f"/{namespace}/{identity}")
    elif not mounts and not _has_root(spec):
        raise InvalidArgument(f"sandbox {identity}: there is no rootfs with its spec's program")
    if request["netns_path"]:
        _join_network(spec, identity, request["netns_path"])
    if request["annotations"]:
        spec["annotations"] = {**(spec.get("annotations") or {}), **request["annotations"]}
    return document.dump(spec), mounts, pauses


def _given(bundle: str, identity: str) -> Values:
    """The spec that containerd has put into the bundle; an empty one where there is none."""
    try:
        with open(paths.bundle_file(bundle, paths.CONFIG), "rb") as file:
            data = file.read(CONFIG_BYTES_MAX)
    except FileNotFoundError:
        return {}
    try:
        spec: Any = document.parse(data) if data else {}
    except ValueError as error:
        raise InvalidArgument(f"sandbox {identity}: its spec is no JSON: {error}") from None
    if not isinstance(spec, dict):
        raise InvalidArgument(f"sandbox {identity}: its spec is not a JSON object")
    return spec


def _has_root(spec: Values) -> bool:
    """Whether the spec leads to a root outside the bundle."""
    root = spec.get("root")
    return isinstance(root, dict) and str(root.get("path", "")).startswith("/")


def _root_of_pause(bundle: str) -> Values:
    directory = paths.bundle_file(bundle, paths.PAUSE)
    pause.write(directory)
    return {"type": "bind", "source": directory, "target": "", "options": ["rbind", "rw"]}


def _with_pause(spec: Values, process: Values, cgroup: str) -> Values:
    """`spec` with all that it leaves open; what it says stays, but for its root."""
    linux = spec.get("linux")
    if linux is None:
        kinds = [{"type": kind} for kind in NAMESPACES]
        linux = {"namespaces": kinds, "cgroupsPath": cgroup}
    return {
        "ociVersion": "1.0.2",
        "hostname": "",
        "mounts": MOUNTS,
        **spec,
        "process": {**PROCESS, **process, "args": [pause.PATH]},
        "root": {"path": paths.ROOTFS, "readonly": True},
        "linux": linux,
    }


def _join_network(spec: Values, identity: str, path: str) -> None:
    try:
        others = [one for one in spec["linux"]["namespaces"] if one["type"] != NETWORK]
    except (KeyError, TypeError):
        raise InvalidArgument(f"sandbox {identity}: its spec has no namespaces") from None
    spec["linux"]["namespaces"] = [*others, {"type": NETWORK, "path": path}]
