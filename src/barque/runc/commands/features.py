"""`features`: what this runtime does, as JSON. runtime-spec, features.md."""

from __future__ import annotations

from barque import __version__
from barque.linux.capabilities import NAMES
from barque.linux.fs import write_all
from barque.linux.libseccomp import ACTIONS, ARCHITECTURES, OPERATORS
from barque.linux.scheduling import MEMORY_FLAGS, MEMORY_MODES
from barque.oci.document import dump_indented
from barque.oci.runtime import HOOK_POINTS, SPEC_VERSION
from barque.runc.birth import NAMESPACE_FLAGS
from barque.runc.options import ATTRIBUTES, OURS, PROPAGATION, SUPERBLOCK, WITHOUT_EFFECT
from barque.runc.seccomp import FLAGS as SECCOMP_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.flags import Arguments, Flag
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS: tuple[Flag, ...] = ()
USAGE = "features"
WORDS = (0, 0)
OLDEST_SPEC = "1.0.0"
# annotations of a config.json that change what the runtime does; a prefix ends with a dot
OBEYED = ("org.criu.config", "org.systemd.property.")


def run(given: Arguments, paths: Paths, log: Log) -> int:
    write_all(1, (dump_indented(document(), "    ") + "\n").encode())
    return 0


def document() -> dict[str, Any]:
    words = {*ATTRIBUTES, *(f"r{word}" for word in ATTRIBUTES), *PROPAGATION, *SUPERBLOCK}
    words |= {*WITHOUT_EFFECT, *OURS} - {""}
    return {
        "ociVersionMin": OLDEST_SPEC,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOK_POINTS),
        "mountOptions": sorted(words),
        "linux": {
            "namespaces": sorted(NAMESPACE_FLAGS),
            "capabilities": list(NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(SECCOMP_FLAGS),
                "supportedFlags": sorted(SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": sorted(MEMORY_MODES), "flags": sorted(MEMORY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"io.barque.version": __version__},
        "potentiallyUnsafeConfigAnnotations": list(OBEYED),
    }
