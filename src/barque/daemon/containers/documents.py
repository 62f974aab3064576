"""The Engine API's container documents, parsed once at the edge.

Source: Engine API, definitions ContainerConfig, HostConfig, Resources, Mount. Keys are taken as
Go's decoder takes them: in any case, `null` is the zero value, unknown keys are dropped.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from barque import errors

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Uint16 = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
Uint64 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

_SPECIAL_NAMES = {
    "uts_mode": "UTSMode",
    "container_id_file": "ContainerIDFile",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "rw": "RW",
}


def docker_name(field: str) -> str:
    """`nano_cpus` as the API spells it: `NanoCpus`."""
    return _SPECIAL_NAMES.get(field) or "".join(part.capitalize() for part in field.split("_"))


class Document(Struct, kw_only=True, rename=docker_name):
    """A JSON object of the Engine API."""


class Health(Document, omit_defaults=True):
    test: list[str] = []
    interval: Int64 = 0
    timeout: Int64 = 0
    retries: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0


class Config(Document):
    """What of the container does not depend on the host (API: ContainerConfig)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | None = None
    healthcheck: Health | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: list[str] | None = None


class WeightDevice(Document):
    path: str = ""
    weight: Uint16 = 0


class ThrottleDevice(Document):
    path: str = ""
    rate: Uint64 = 0


class DeviceMapping(Document):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Document):
    driver: str = ""
    count: Int64 = 0
    device_ids: list[str] = msgspec.field(default_factory=list, name="DeviceIDs")
    capabilities: list[list[str]] = []
    options: dict[str, str] = {}


class Ulimit(Document):
    name: str = ""
    soft: Int64 = 0
    hard: Int64 = 0


class LogConfig(Document):
    type: str = ""
    config: dict[str, str] = {}


class RestartPolicy(Document):
    """The last three are ours, in nanoseconds; 0 for Docker's way."""

    name: str = ""
    maximum_retry_count: Int64 = 0
    delay: Int64 = 0
    """Before the first restart; it doubles with each."""
    maximum_delay: Int64 = 0
    window: Int64 = 0
    """Who ran for so long begins anew: the delay, and the count of retries."""


class PortBinding(Document):
    host_ip: str = ""
    host_port: str = ""


class BindOptions(Document, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Document, omit_defaults=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Document, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: DriverConfig | None = None
    subpath: str = ""


class ImageOptions(Document, omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(Document, omit_defaults=True):
    size_bytes: Int64 = 0
    mode: Int64 = 0
    options: list[list[str]] = []


class Mount(Document, omit_defaults=True):
    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(Document):
    """Limits; the part of HostConfig that `update` may change."""

    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: Uint16 = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_iops: list[ThrottleDevice] = []
    blkio_device_write_iops: list[ThrottleDevice] = []
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] = []
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: list[Ulimit] = []
    cpu_count: Int64 = 0
    cpu_percent: Int64 = 0
    io_maximum_iops: Int64 = 0
    io_maximum_bandwidth: Int64 = 0


class HostConfig(Resources):
    """What of the container depends on the host."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = {}
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[Mount] | None = None
    console_size: list[Annotated[int, Meta(ge=0, le=65535)]] = msgspec.field(
        default_factory=lambda: [0, 0]
    )
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: Int64 = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    init: bool | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    health_on_failure: str = ""
    """Ours: what is done with it once it is unhealthy; one of `validate.HEALTH_ACTIONS`."""


class ExecConfig(Document):
    """API: ExecConfig, the body of POST /containers/{id}/exec."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: list[Annotated[int, Meta(ge=0, le=65535)]] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = []
    cmd: list[str] = []
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


Parsed = TypeVar("Parsed", bound=Document)
_STRING_OR_LIST = frozenset({"Cmd", "Entrypoint", "Shell"})


def parse(kind: type[Parsed], document: Mapping[str, Any]) -> Parsed:
    """`document` as `kind`. Raises InvalidArgument naming the field that does not fit."""
    try:
        return msgspec.convert(_normal(kind, document), kind)
    except msgspec.ValidationError as error:
        raise errors.InvalidArgument(f"invalid request body: {error}") from None


def _normal(kind: Any, value: Any) -> Any:
    """`value` with Go's leniency taken out: exact key names, no nulls where `kind` has fields."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        if not isinstance(value, Mapping):
            return value
        return _normal_struct(kind, value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        inner = [argument for argument in arguments if argument is not type(None)]
        return value if value is None else _normal(inner[0], value)
    if origin is list and isinstance(value, list):
        return [_element(arguments[0], item) for item in value]
    if origin is dict and isinstance(value, Mapping):
        return {key: _element(arguments[1], item) for key, item in value.items()}
    return value


def _element(kind: Any, value: Any) -> Any:
    """Of a list or a map, where Go takes null for the nothing of its kind."""
    if value is not None:
        return _normal(kind, value)
    if kind in (str, int, bool, float):
        return kind()
    return {} if isinstance(kind, type) and issubclass(kind, Struct) else None


def _normal_struct(kind: type[Struct], value: Mapping[str, Any]) -> dict[str, Any]:
    names = _field_types(kind)
    result: dict[str, Any] = {}
    for key, item in value.items():
        field = names.get(key) or names.get(key.lower())
        if field is None or item is None:
            continue
        name, field_type = field
        if name in _STRING_OR_LIST and isinstance(item, str):
            item = [item]
        result[name] = _normal(field_type, item)
    return result


@cache
def _field_types(kind: type[Struct]) -> dict[str, tuple[str, Any]]:
    """Exact and lower-case key -> (exact key, type)."""
    hints = typing.get_type_hints(kind)
    found = {
        field.encode_name: (field.encode_name, hints[field.name])
        for field in msgspec.structs.fields(kind)
    }
    return {key.lower(): value for key, value in found.items()} | found


def document(value: Struct) -> dict[str, Any]:
    """`value` as the JSON object the API answers with."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain
