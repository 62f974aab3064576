"""The runtime-spec's config.json and process, checked and as values.

runtime-spec 1.3: config.md, config-linux.md. Plain slotted classes: `dataclasses` would cost the
runtime more time than it has for a whole container. Every number is in its range after `parse`.
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.oci.fields import INT64, LARGEST_ID, UINT16, UINT32, UINT64, Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC_VERSION = "1.3.0"
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
HOOK_POINTS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
DEVICE_TYPES = ("c", "u", "b", "p")
OFFSET_CLOCKS = ("monotonic", "boottime")
LARGEST_NANOSECOND = 999_999_999
LONGEST_TIMEOUT_S = 1 << 31


class Value:
    """A record: its slots are its constructor's keywords."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, **fields: Any) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.pop(name))
        assert not fields, fields

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({members})"


class Process(Value):
    """What runs in the container. config.md, "Process"."""

    __slots__ = (
        "additional_gids",
        "apparmor_profile",
        "args",
        "capabilities",
        "console_size",
        "cwd",
        "env",
        "exec_affinity",
        "gid",
        "io_priority",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "scheduler",
        "selinux_label",
        "terminal",
        "uid",
        "umask",
    )
    terminal: bool
    console_size: tuple[int, int] | None  # height, width
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    umask: int | None
    additional_gids: tuple[int, ...]
    capabilities: dict[str, tuple[str, ...]] | None
    rlimits: tuple[tuple[str, int, int], ...]  # type, soft, hard
    no_new_privileges: bool
    oom_score_adj: int | None
    apparmor_profile: str
    selinux_label: str
    scheduler: Fields | None  # these three are read by barque.runc.scheduling
    io_priority: Fields | None
    exec_affinity: Fields | None


class Mount(Value):
    """config.md, "Mounts"."""

    __slots__ = ("destination", "gid_mappings", "options", "source", "type", "uid_mappings")
    destination: str
    source: str
    type: str
    options: tuple[str, ...]
    uid_mappings: tuple[IdMapping, ...]
    gid_mappings: tuple[IdMapping, ...]


class IdMapping(Value):
    __slots__ = ("container_id", "host_id", "size")
    container_id: int
    host_id: int
    size: int


class Namespace(Value):
    __slots__ = ("path", "type")
    type: str
    path: str  # empty: a new one


class Device(Value):
    __slots__ = ("gid", "major", "minor", "mode", "path", "type", "uid")
    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


class Hook(Value):
    __slots__ = ("args", "env", "path", "timeout_s")
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...] | None  # None: that of who runs it
    timeout_s: int | None


class Linux(Value):
    """config-linux.md."""

    __slots__ = (
        "cgroups_path",
        "devices",
        "gid_mappings",
        "masked_paths",
        "memory_policy",
        "mount_label",
        "namespaces",
        "net_devices",
        "personality",
        "rdt",
        "readonly_paths",
        "resources",
        "rootfs_propagation",
        "seccomp",
        "sysctl",
        "time_offsets",
        "uid_mappings",
    )
    namespaces: dict[str, Namespace]
    uid_mappings: tuple[IdMapping, ...]
    gid_mappings: tuple[IdMapping, ...]
    devices: tuple[Device, ...]
    cgroups_path: str
    resources: Fields | None  # read by barque.runc.resources
    rootfs_propagation: str
    seccomp: dict[str, Any] | None  # read by barque.runc.seccomp
    sysctl: dict[str, str]
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    mount_label: str
    personality: str
    time_offsets: dict[str, tuple[int, int]]  # clock: seconds, nanoseconds
    memory_policy: Fields | None  # read by barque.runc.scheduling
    rdt: Fields | None  # intelRdt, read by barque.runc.rdt
    net_devices: dict[str, str]  # host's name: name in the container


class Spec(Value):
    """A whole config.json."""

    __slots__ = (
        "annotations",
        "domainname",
        "hooks",
        "hostname",
        "linux",
        "mounts",
        "oci_version",
        "process",
        "root_path",
        "root_readonly",
    )
    oci_version: str
    root_path: str
    root_readonly: bool
    hostname: str
    domainname: str
    mounts: tuple[Mount, ...]
    process: Process
    hooks: dict[str, tuple[Hook, ...]]
    annotations: dict[str, str]
    linux: Linux


def parse_spec(document: Any) -> Spec:
    """The values of a config.json; InvalidArgument names the member that is wrong."""
    top = Fields(document)
    root = top.section("root")
    process = top.section("process")
    if root is None or not root.text("path"):
        raise InvalidArgument("root.path is missing")
    if process is None:
        raise InvalidArgument("process is missing")
    return Spec(
        oci_version=top.text("ociVersion"),
        root_path=root.text("path"),
        root_readonly=root.flag("readonly"),
        hostname=top.text("hostname"),
        domainname=top.text("domainname"),
        mounts=tuple(_mount(fields) for fields in top.sections("mounts")),
        process=parse_process(process),
        hooks=_hooks(top.section("hooks")),
        annotations=top.table("annotations"),
        linux=_linux(top.section("linux") or Fields({}, "linux")),
    )


def parse_process(fields: Fields) -> Process:
    """The values of config.json's `process`, which is also the file that exec takes."""
    user = fields.section("user") or Fields({}, fields.path("user"))
    size = fields.section("consoleSize")
    return Process(
        terminal=fields.flag("terminal"),
        console_size=None if size is None else (_side(size, "height"), _side(size, "width")),
        args=fields.texts("args"),
        env=fields.texts("env"),
        cwd=fields.text("cwd"),
        uid=user.number("uid", 0, LARGEST_ID) or 0,
        gid=user.number("gid", 0, LARGEST_ID) or 0,
        umask=user.number("umask", 0, UINT32),
        additional_gids=user.numbers("additionalGids", 0, LARGEST_ID),
        capabilities=_capabilities(fields.section("capabilities")),
        rlimits=tuple(_rlimit(limit) for limit in fields.sections("rlimits")),
        no_new_privileges=fields.flag("noNewPrivileges"),
        oom_score_adj=fields.number("oomScoreAdj", -1000, 1000),
        apparmor_profile=fields.text("apparmorProfile"),
        selinux_label=fields.text("selinuxLabel"),
        scheduler=fields.section("scheduler"),
        io_priority=fields.section("ioPriority"),
        exec_affinity=fields.section("execCPUAffinity"),
    )


def _side(size: Fields, name: str) -> int:
    return size.number(name, 0, UINT16) or 0


def _capabilities(fields: Fields | None) -> dict[str, tuple[str, ...]] | None:
    return None if fields is None else {name: fields.texts(name) for name in CAPABILITY_SETS}


def _rlimit(fields: Fields) -> tuple[str, int, int]:
    soft = fields.required_number("soft", 0, UINT64)
    return fields.text("type"), soft, fields.required_number("hard", 0, UINT64)


def _mount(fields: Fields) -> Mount:
    destination = fields.text("destination")
    if not destination:
        raise InvalidArgument(f"{fields.path('destination')} is missing")
    return Mount(
        destination=destination,
        source=fields.text("source"),
        type=fields.text("type"),
        options=fields.texts("options"),
        uid_mappings=_mappings(fields, "uidMappings"),
        gid_mappings=_mappings(fields, "gidMappings"),
    )


def _mappings(fields: Fields, name: str) -> tuple[IdMapping, ...]:
    return tuple(
        IdMapping(
            container_id=mapping.required_number("containerID", 0, LARGEST_ID),
            host_id=mapping.required_number("hostID", 0, LARGEST_ID),
            size=mapping.required_number("size", 0, UINT32),
        )
        for mapping in fields.sections(name)
    )


def _hooks(fields: Fields | None) -> dict[str, tuple[Hook, ...]]:
    if fields is None:
        return {}
    found = {point: tuple(_hook(hook) for hook in fields.sections(point)) for point in HOOK_POINTS}
    return {point: hooks for point, hooks in found.items() if hooks}


def _hook(fields: Fields) -> Hook:
    path = fields.text("path")
    if not path.startswith("/"):
        raise InvalidArgument(f"{fields.path('path')}: {path!r} is not an absolute path")
    return Hook(
        path=path,
        args=fields.texts("args") or (path,),
        env=fields.texts("env") if fields.has("env") else None,
        timeout_s=fields.number("timeout", 1, LONGEST_TIMEOUT_S),
    )


def _linux(fields: Fields) -> Linux:
    personality = fields.section("personality")
    seccomp = fields.section("seccomp")
    return Linux(
        namespaces=_namespaces(fields),
        uid_mappings=_mappings(fields, "uidMappings"),
        gid_mappings=_mappings(fields, "gidMappings"),
        devices=tuple(_device(device) for device in fields.sections("devices")),
        cgroups_path=fields.text("cgroupsPath"),
        resources=fields.section("resources"),
        rootfs_propagation=fields.text("rootfsPropagation"),
        seccomp=None if seccomp is None else seccomp.members,
        sysctl=fields.table("sysctl"),
        masked_paths=fields.texts("maskedPaths"),
        readonly_paths=fields.texts("readonlyPaths"),
        mount_label=fields.text("mountLabel"),
        personality="" if personality is None else _personality(personality),
        time_offsets=_time_offsets(fields.section("timeOffsets")),
        memory_policy=fields.section("memoryPolicy"),
        rdt=fields.section("intelRdt"),
        net_devices=_net_devices(fields.section("netDevices")),
    )


def _personality(fields: Fields) -> str:
    for flag in fields.texts("flags"):  # the specification has none yet
        raise InvalidArgument(f"{fields.path('flags')}: {flag!r} is unknown")
    return fields.text("domain")


def _time_offsets(clocks: Fields | None) -> dict[str, tuple[int, int]]:
    found = {}
    for name in () if clocks is None else clocks.members:
        assert clocks is not None
        if name not in OFFSET_CLOCKS:
            raise InvalidArgument(f"{clocks.path(name)} is not a clock with an offset")
        offset = clocks.section(name) or Fields({}, clocks.path(name))
        seconds = offset.number("secs", -INT64, INT64) or 0
        found[name] = (seconds, offset.number("nanosecs", 0, LARGEST_NANOSECOND) or 0)
    return found


def _net_devices(devices: Fields | None) -> dict[str, str]:
    found = {}
    for name in () if devices is None else devices.members:
        assert devices is not None
        device = devices.section(name) or Fields({}, devices.path(name))
        found[name] = device.text("name") or name
    return found


def _namespaces(fields: Fields) -> dict[str, Namespace]:
    found: dict[str, Namespace] = {}
    for entry in fields.sections("namespaces"):
        kind, path = entry.text("type"), entry.text("path")
        if kind not in NAMESPACE_TYPES:
            raise InvalidArgument(f'namespace {{"{kind}" "{path}"}} does not exist')
        if kind in found:
            raise InvalidArgument(f'malformed spec file: duplicated ns {{"{kind}" "{path}"}}')
        found[kind] = Namespace(type=kind, path=path)
    return found


def _device(fields: Fields) -> Device:
    kind = fields.text("type")
    if kind not in DEVICE_TYPES:
        raise InvalidArgument(f'invalid device type "{kind}"')
    mode = fields.number("fileMode", 0, UINT32)
    return Device(
        path=fields.text("path"),
        type=kind,
        major=fields.number("major", 0, INT64) or 0,
        minor=fields.number("minor", 0, INT64) or 0,
        mode=0o666 if mode is None else mode,
        uid=fields.number("uid", 0, LARGEST_ID) or 0,
        gid=fields.number("gid", 0, LARGEST_ID) or 0,
    )
