"""Cgroups through systemd: a container's is a transient scope. runc's --systemd-cgroup.

`linux.cgroupsPath` is then `slice:prefix:name`; the unit is `prefix-name.scope`. Limits are
properties of the unit, so that systemd does not take them back when it reads its configuration
again; all of them are written to the files as well, by `barque.runc.resources`, since systemd knows
fewer. For cgroups of version 2. systemd.scope(5), systemd.resource-control(5),
org.freedesktop.systemd1(5).

Root's scopes are the system's systemd's; an ordinary user's are his own's, below the cgroup that it
was given (user@.service), and have no rules for devices.

A scope cannot be empty: a placeholder lives in it until the container's first process does.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, Conflict, InvalidArgument, Unavailable, Unsupported
from barque.linux import cgroup as control
from barque.linux.namespaces import clone3
from barque.linux.process import set_parent_death_signal
from barque.runc.dbus import Connection, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from barque.oci.runtime import Spec
    from barque.runc.container import Container
    from barque.runc.device_rules import Rules
    from barque.runc.resources import Write
    from barque.runc.undo import Undo

    Properties = list[tuple[str, tuple[str, Any]]]

RUNNING = "/run/systemd/system"  # sd_booted(3)
MANAGER = (
    *("org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
    "org.freedesktop.systemd1.Manager",
)
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
PROPERTIES = (*MANAGER[:2], "org.freedesktop.DBus.Properties")
DEFAULT_SLICE, DEFAULT_USER_SLICE = "system.slice", "user.slice"
OWN_SCOPE = "/init.scope"  # where a systemd itself is, below its cgroup
DEFAULT_PREFIX = "runc"
ANNOTATION = "org.systemd.property."
UNLIMITED = (1 << 64) - 1
SECOND_US = 1_000_000
QUOTA_STEP_US = 10_000  # systemd keeps the quota of a second in such steps
MOST_CPUS = 8192
SIGKILL = 9
# file of version 2: property that takes bytes or a count, "max" included
COUNTS = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
ALWAYS: Properties = [
    ("MemoryAccounting", ("b", True)),
    ("CPUAccounting", ("b", True)),
    ("IOAccounting", ("b", True)),
    ("TasksAccounting", ("b", True)),
    ("DefaultDependencies", ("b", False)),
]


def place_of(path: str, container: str) -> tuple[str, str]:
    """The slice and the unit of `linux.cgroupsPath`; InvalidArgument in runc's words."""
    default = DEFAULT_USER_SLICE if os.geteuid() else DEFAULT_SLICE
    if not path:
        return default, f"{DEFAULT_PREFIX}-{container}.scope"
    parts = path.split(":")
    if len(parts) != 3:
        raise InvalidArgument(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
            f'got "{path}" instead'
        )
    parent, prefix, name = parts
    if not name or "/" in path:
        raise InvalidArgument(f'cgroupsPath "{path}" names no unit')
    if parent == "-":
        parent = "-.slice"
    if name.endswith(".slice"):
        raise Unsupported(f'cgroupsPath "{path}": a slice has no processes, so no container')
    return parent or default, f"{prefix}-{name}.scope"


def expand(parent: str) -> str:
    """The path of a slice: a-b.slice lies in a.slice. systemd.slice(5)."""
    name = parent.removesuffix(".slice")
    if name == "-" and parent.endswith(".slice"):
        return ""
    parts = name.split("-")
    if not parent.endswith(".slice") or "/" in parent or not all(parts):
        raise InvalidArgument(f"invalid slice name: {parent}")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def locate(path: str, container: str) -> tuple[dict[str, str], str, str]:
    """The container's directories, its unit and the unit's slice."""
    if not os.path.isdir(RUNNING):
        raise Unavailable("systemd not running on this host, cannot use systemd cgroups manager")
    if not control.is_unified():
        raise Unsupported("--systemd-cgroup needs cgroup version 2")
    parent, unit = place_of(path, container)
    where = f"{control.ROOT}{managers_cgroup()}{expand(parent)}/{unit}"
    return {control.UNIFIED: where}, unit, parent


def managers_cgroup() -> str:
    """Below which the slices are: of the system's systemd the root of all."""
    if not os.geteuid():
        return ""
    connection = Connection()
    try:
        (path,) = connection.call(PROPERTIES, "Get", "ss", MANAGER[2], "ControlGroup")
    except Refused as error:
        raise BarqueError(f"systemd does not tell its cgroup: {error}") from None
    finally:
        connection.close()
    return str(path).removesuffix(OWN_SCOPE).rstrip("/")


def properties_of(writes: Iterable[Write]) -> Properties:
    """What systemd knows of the limits."""
    found: dict[str, tuple[str, Any]] = {}
    for write in writes:
        value = write.value.strip()
        if write.file in COUNTS:
            found[COUNTS[write.file]] = ("t", _count(write.file, value))
        elif write.file in SETS:
            found[SETS[write.file]] = ("ay", bits(value))
        elif write.file == "cpu.max":
            found |= _quota(value)
    return list(found.items())


def _count(file: str, value: str) -> int:
    if value == "max":
        return UNLIMITED
    if not (value.isascii() and value.isdigit() and int(value) <= UNLIMITED):
        raise InvalidArgument(f"{file}: {value!r} is not a number")
    return int(value)


def _quota(value: str) -> dict[str, tuple[str, Any]]:
    quota, _, period = value.partition(" ")
    period_us = _count("cpu.max", period or "100000")
    if quota == "max" or not period_us:
        per_second = UNLIMITED
    else:
        per_second = _count("cpu.max", quota) * SECOND_US // period_us
        per_second += -per_second % QUOTA_STEP_US
    return {"CPUQuotaPeriodUSec": ("t", period_us), "CPUQuotaPerSecUSec": ("t", per_second)}


def bits(text: str) -> bytes:
    """A list such as 0-2,5 as a mask, lowest byte first."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        numbers = (first, last)
        if not all(n.isascii() and n.isdigit() and int(n) < MOST_CPUS for n in numbers):
            raise InvalidArgument(f"{text!r} is not a list of numbers")
        for number in range(int(first), int(last) + 1):
            mask |= 1 << number
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def device_properties(rules: Rules) -> Properties:
    """The rules for systemd's own filter, which works beside ours: it may not be stricter."""
    if rules.allowed:
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    allowed = []
    groups = device_groups()
    for (kind, major, minor), access in rules.exceptions.items():
        if major < 0:
            node: str | None = f"{'block' if kind == 'b' else 'char'}-*"
        elif minor < 0:
            node = groups.get((kind, major))
        else:
            node = f"/dev/{'block' if kind == 'b' else 'char'}/{major}:{minor}"
        if node is not None:
            allowed.append((node, access))
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


def device_groups() -> dict[tuple[str, int], str]:
    """Kind and major number to systemd's name for all devices of that driver. /proc/devices."""
    found = {}
    kind = ""
    with open("/proc/devices", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if line.startswith(("Character", "Block")):
                kind = "b" if line.startswith("Block") else "c"
            elif len(words) == 2 and words[0].isdigit():
                word = "block" if kind == "b" else "char"
                found[kind, int(words[0])] = f"{word}-{words[1]}"
    return found


def annotated(annotations: dict[str, str]) -> Properties:
    """Properties that the config's annotations ask for, in GVariant's text form."""
    found = []
    for name, text in annotations.items():
        if name.startswith(ANNOTATION):
            key = name.removeprefix(ANNOTATION)
            kind, value = variant(text, name)
            if key.endswith("Sec") and not key.endswith("USec"):
                key = key.removesuffix("Sec") + "USec"
                value = int(value) * SECOND_US
            if not (key.isascii() and key.isalnum()):
                raise InvalidArgument(f"annotation {name}: not the name of a property")
            found.append((key, (kind, value)))
    return found


def variant(text: str, name: str) -> tuple[str, Any]:
    text = text.strip()
    if text in ("true", "false"):
        return "b", text == "true"
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and "\\" not in text:
        return "s", text[1:-1]
    word, _, number = text.rpartition(" ")
    kinds = {"uint64": "t", "uint32": "u", "int64": "x", "int32": "i", "": "i"}
    digits = number.lstrip("-")
    if word in kinds and digits.isascii() and digits.isdigit() and len(digits) < 20:
        return kinds[word], int(number)
    raise Unsupported(f"annotation {name}: {text!r} is not a simple value")


def make(
    container: Container, spec: Spec, limits: tuple[tuple[Write, ...], Rules], undo: Undo
) -> Callable[[], None]:
    """Start the container's unit; returns what lets its placeholder go."""
    writes, rules = limits
    directories, unit, parent = locate(spec.linux.cgroups_path, container.id)
    properties = [*properties_of(writes), *annotated(spec.annotations)]
    if not os.geteuid():
        properties = [*device_properties(rules), *properties]
    pid = _placeholder()
    undo.add(end_placeholder, pid)
    start(container.id, unit, parent, pid, properties)
    undo.add(stop, unit)
    where = control.own_paths(pid)[""]
    if f"{control.ROOT}{where}" != directories[control.UNIFIED]:
        raise BarqueError(f'systemd has put unit "{unit}" at {where}')
    return lambda: end_placeholder(pid)


def _placeholder() -> int:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = clone3(0, exit_signal=17)
    if pid == 0:
        try:
            os.close(writer)
            set_parent_death_signal(SIGKILL)
            os.read(reader, 1)  # until it is killed: the other end is closed with its parent
        finally:
            os._exit(0)
    os.close(reader)
    _writers[pid] = writer
    return pid


_writers: dict[int, int] = {}  # of the placeholders that live


def end_placeholder(pid: int) -> None:
    """May be called twice."""
    writer = _writers.pop(pid, -1)
    if writer >= 0:
        os.close(writer)
        os.waitpid(pid, 0)


def start(container: str, unit: str, parent: str, pid: int, properties: Properties) -> None:
    """StartTransientUnit, and wait until it has happened."""
    scope: Properties = [("Description", ("s", f"libcontainer container {container}"))]
    scope += [("Slice", ("s", parent)), ("Delegate", ("b", True)), ("PIDs", ("au", [pid]))]
    connection = Connection()
    try:
        wanted = [*scope, *ALWAYS, *properties]
        for retry in (False, True):
            try:
                _job(
                    *(connection, unit, "StartTransientUnit", "ssa(sv)a(sa(sv))"),
                    *(unit, "replace", wanted, []),
                )
                return
            except Refused as error:
                if error.name != UNIT_EXISTS or retry:
                    raise
                _reset_failed(connection, unit)
    except Refused as error:
        kind = Conflict if error.name == UNIT_EXISTS else BarqueError
        raise kind(f'unable to start unit "{unit}": {error}') from None
    finally:
        connection.close()


def stop(unit: str) -> None:
    """Stop the unit and forget that it failed; one that is gone is done."""
    connection = Connection()
    try:
        try:
            _job(connection, unit, "StopUnit", "ss", unit, "replace")
        except Refused as error:
            if error.name != NO_SUCH_UNIT:
                raise
        _reset_failed(connection, unit)
    finally:
        connection.close()


def forget(unit: str) -> None:
    """Stop a unit whose container is gone. A systemd that does not answer forgets by itself a scope
    that is empty."""
    try:
        stop(unit)
    except Unavailable:
        return


def set_properties(unit: str, properties: Properties) -> None:
    """Change a unit that runs, until the next boot."""
    if not properties:
        return
    connection = Connection()
    try:
        connection.call(MANAGER, "SetUnitProperties", "sba(sv)", unit, True, properties)
    except Refused as error:
        raise BarqueError(f"unable to set unit properties: {error}") from None
    finally:
        connection.close()


def _reset_failed(connection: Connection, unit: str) -> None:
    try:
        connection.call(MANAGER, "ResetFailedUnit", "s", unit)
    except Refused:
        return  # it is not loaded: nothing failed


def _job(connection: Connection, unit: str, member: str, signature: str, *values: Any) -> None:
    """A call whose answer is a job; returns when the job is done."""
    rule = f"type='signal',interface='{MANAGER[2]}',member='JobRemoved'"
    connection.subscribe(rule)
    connection.call(MANAGER, "Subscribe")
    (job,) = connection.call(MANAGER, member, signature, *values)
    while True:
        _, path, _, result = connection.signal("JobRemoved")
        if path == job:
            break
    if result != "done":
        raise BarqueError(f'systemd: {member} of unit "{unit}": {result}')
