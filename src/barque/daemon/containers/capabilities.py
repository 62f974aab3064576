"""Linux capabilities by name: Docker's default set, `--cap-add`, `--cap-drop`, `--privileged`.

Docker's rules: names in any case, with or without `CAP_`; `ALL` on either side; drop first when ALL
is added. A capability that the daemon itself lacks cannot be handed on: it is left out of
`--privileged` and of ALL, and refused when it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from barque import errors

_IN_ORDER = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
    "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
    "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
    "CHECKPOINT_RESTORE"
)
NAMES = tuple(f"CAP_{name}" for name in _IN_ORDER.split())
"""By number, as in capability(7)."""

_GRANTED = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
    "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
)
DEFAULT = tuple(f"CAP_{name}" for name in _GRANTED.split())
ALL = "ALL"


def normal(names: Iterable[str], option: str) -> list[str]:
    """`net_admin` as `CAP_NET_ADMIN`. Raises InvalidArgument for a name that is none."""
    result = []
    for name in names:
        upper = name.upper()
        if upper != ALL:
            upper = upper if upper.startswith("CAP_") else f"CAP_{upper}"
            if upper not in NAMES:
                raise errors.InvalidArgument(f'invalid {option}: unknown capability: "{upper}"')
        result.append(upper)
    return result


def held(status: str) -> frozenset[str]:
    """The capabilities a process can hand on, from the text of its /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1)
    return frozenset()


def refuse_unheld(adds: Iterable[str], available: frozenset[str]) -> None:
    """Raises InvalidArgument for a capability asked for by name that the daemon does not have."""
    for name in normal(adds, "CapAdd"):
        if name != ALL and name not in available:
            raise errors.InvalidArgument(
                f"invalid CapAdd: the daemon does not have {name}, so no container can have it"
            )


def missing(adds: Iterable[str], privileged: bool, available: frozenset[str]) -> list[str]:
    """What `--privileged` or ALL cannot give here, for a warning."""
    if not (privileged or ALL in normal(adds, "CapAdd")):
        return []
    return [name for name in NAMES if name not in available]


def resolve(
    adds: Iterable[str], drops: Iterable[str], privileged: bool, available: frozenset[str]
) -> list[str]:
    """The capabilities of the container's processes, in the kernel's order."""
    if privileged:
        return [name for name in NAMES if name in available]
    added, dropped = set(normal(adds, "CapAdd")), set(normal(drops, "CapDrop"))
    if ALL in added:
        wanted = set(NAMES) - dropped
    elif ALL in dropped:
        wanted = added
    else:
        wanted = (set(DEFAULT) - dropped) | added
    return [name for name in NAMES if name in wanted and name in available]
