"""`POST /containers/create`: from a request to a record and a writable snapshot."""

from __future__ import annotations

import os
import posixpath
import random
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from barque import errors
from barque.daemon import emulation
from barque.daemon.containers import image_mounts, labels, mounts, names, others, validate
from barque.daemon.containers.backend import Image
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import Config, Health, HostConfig, parse
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.host import Host
from barque.daemon.containers.layers import is_directory, layer_directories
from barque.daemon.containers.record import DEFAULT_NETWORK, MountPoint, Record
from barque.daemon.containers.rootfs import mark
from barque.daemon.containers.security import parse as parse_security
from barque.daemon.containers.spec import MASKED_PATHS, READONLY_PATHS, private_cgroup_namespace
from barque.daemon.containers.state import State
from barque.daemon.containers.supervise import RootfsMount
from barque.daemon.defaults import size_bytes
from barque.oci import image as oci

NAME_TRIES = 6
STORAGE_MAX = 1 << 62


async def create(
    engine: Engine, name: str, body: Mapping[str, Any], platform: str = ""
) -> tuple[Container, list[str]]:
    """A new container and the warnings for its maker. Nothing is left of one that fails."""
    config, host, endpoints = _parse(body)
    if engine.networks.no_default:
        endpoints = _without_default(host, endpoints)
    if not config.image:
        raise errors.InvalidArgument("no image specified: Image must not be empty")
    image = await engine.images.resolve(config.image)
    _check_platform(config.image, image, platform)
    merge_image(config, image.config)
    container_id = secrets.token_hex(32)
    others.check(engine, host, endpoints)
    warnings = [*_discarded(body), *_settle(engine, container_id, config, host)]
    if not platform:
        warnings += emulation.warnings(image.platform, os.uname().machine)
    record = Record(
        id=container_id,
        name=_choose_name(engine, name),
        created=engine.now(),
        image=image.id,
        chain_id=image.chain_id,
        path=(config.entrypoint or config.cmd or [""])[0],
        args=_arguments(config),
        config=config,
        host=host,
        endpoints=endpoints,
        mounts=_mounts(engine, config, host),
        driver=engine.defaults.snapshotter,
    )
    container = Container(record, State())
    async with AsyncExitStack() as undo:
        engine.creating.add(container_id)
        undo.callback(engine.creating.discard, container_id)
        _label(engine, record)
        undo.callback(engine.labels.release, record)
        engine.catalogue.take_name(record.name, container_id)
        undo.callback(engine.catalogue.free_name, record.name)
        undo.push_async_callback(engine.undo, "volumes", _drop_volumes, engine, record)
        await _make_volumes(engine, record)
        remove_snapshot = engine.supervisor.remove_snapshot
        undo.push_async_callback(engine.undo, "snapshot", remove_snapshot, container_id)
        size = storage_size(host.storage_opt or {}) or engine.defaults.storage_size_bytes
        container.rootfs = await _snapshot(
            engine, container_id, image, size, remapped=host.userns_mode != "host"
        )
        mark(container.rootfs)
        container.pristine, container.has_task = True, False
        undo.push_async_callback(engine.undo, "images", image_mounts.drop_views, engine, record)
        await image_mounts.make_views(engine, record)
        await _fill_volumes(engine, record, container.rootfs)
        engine.catalogue.insert(container)
        engine.creating.discard(container_id)
        undo.pop_all()
    engine.publish(container, "create")
    return container, warnings


def _parse(body: Mapping[str, Any]) -> tuple[Config, HostConfig, dict[str, Any]]:
    folded = {key.lower(): value for key, value in body.items()}
    host = folded.get("hostconfig") or {}
    networking = folded.get("networkingconfig") or {}
    if not isinstance(host, Mapping) or not isinstance(networking, Mapping):
        raise errors.InvalidArgument("invalid request body: HostConfig is not an object")
    networking = {key.lower(): value for key, value in networking.items()}
    endpoints = networking.get("endpointsconfig")
    if not isinstance(endpoints or {}, Mapping):
        raise errors.InvalidArgument("invalid request body: EndpointsConfig is not an object")
    config, parsed, found = parse(Config, body), parse(HostConfig, host), dict(endpoints or {})
    if config.mac_address:  # before API 1.44 it was the container's, not the endpoint's
        mode = parsed.network_mode or "default"
        found[mode] = {"MacAddress": config.mac_address, **(found.get(mode) or {})}
    return config, parsed, found


def _without_default(host: HostConfig, endpoints: Mapping[str, Any]) -> dict[str, Any]:
    """Of a daemon with `--bridge none`: who asks for the default network has none."""
    others_named = {name: asked for name, asked in endpoints.items() if name not in DEFAULT_NETWORK}
    if host.network_mode in DEFAULT_NETWORK:
        host.network_mode = next(iter(others_named), "none")
    return others_named


def _check_platform(reference: str, image: Image, wanted: str) -> None:
    """What is not said fits. Raises InvalidArgument for what is no platform, NotFound."""
    if not wanted:
        return
    asked, have = oci.parse_platform(wanted), oci.parse_platform(image.platform)
    known = asked if asked.architecture else oci.Platform(asked.os, have.architecture)
    if not oci.matches(known, have):
        raise errors.NotFound(
            f"image with reference {reference} was found but its platform ({image.platform}) does "
            f"not match the specified platform ({wanted})"
        )


def merge_image(config: Config, image: Mapping[str, Any]) -> None:
    """Docker's rules for what the image says and the request does not."""
    config.user = config.user or image.get("User") or ""
    config.working_dir = config.working_dir or image.get("WorkingDir") or ""
    config.stop_signal = config.stop_signal or image.get("StopSignal") or ""
    given = {item.partition("=")[0] for item in config.env}
    from_image = [v for v in image.get("Env") or () if v.partition("=")[0] not in given]
    config.env = [*config.env, *from_image]
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = list(image.get("Cmd") or ()) or None
        if config.entrypoint is None:
            config.entrypoint = list(image.get("Entrypoint") or ()) or None
    if config.entrypoint == [""]:
        config.entrypoint = None
    for field, key in (("exposed_ports", "ExposedPorts"), ("volumes", "Volumes")):
        merged = {**(image.get(key) or {}), **(getattr(config, field) or {})}
        setattr(config, field, merged or None)
    config.labels = {**(image.get("Labels") or {}), **config.labels}
    _merge_health(config, image)
    if not config.entrypoint and not config.cmd:
        raise errors.InvalidArgument("no command specified")


def _merge_health(config: Config, image: Mapping[str, Any]) -> None:
    """Each field the request leaves empty is the image's; `["NONE"]` says no health check."""
    if not image.get("Healthcheck"):
        return
    base = parse(Health, image["Healthcheck"])
    if config.healthcheck is None:
        config.healthcheck = base
        return
    for name in base.__struct_fields__:
        if not getattr(config.healthcheck, name):
            setattr(config.healthcheck, name, getattr(base, name))


def _arguments(config: Config) -> list[str]:
    if config.entrypoint:
        return [*config.entrypoint[1:], *(config.cmd or ())]
    return (config.cmd or [])[1:]


def _settle(engine: Engine, container_id: str, config: Config, host: HostConfig) -> list[str]:
    """Check, and put Docker's defaults where nothing was said, so that inspect tells them."""
    defaults, machine = engine.defaults, engine.machine
    if host.network_mode in {"", "default"}:
        host.network_mode = "bridge" if not config.network_disabled else "none"
    validate.check_config(config)
    validate.check_network_mode(config, host)
    warnings = validate.check_host(host, machine, defaults)
    warnings += validate.warn_of_health(config.healthcheck)
    validate.check_health_action(host.health_on_failure, config.healthcheck)
    host.ipc_mode = host.ipc_mode or defaults.ipc_mode
    host.runtime = host.runtime or defaults.runtime
    host.shm_size = host.shm_size or defaults.shm_size_bytes
    host.restart_policy.name = host.restart_policy.name or "no"
    if not host.log_config.type:
        host.log_config.type = defaults.log_driver
        if defaults.log_driver != "none":
            host.log_config.config = {**defaults.log_options, **host.log_config.config}
    if host.memory and not host.memory_swap:
        host.memory_swap = 2 * host.memory
    if host.memory_swappiness == -1:  # the client's word for nothing
        host.memory_swappiness = None
    if host.pids_limit is not None and host.pids_limit <= 0:
        host.pids_limit = None
    if host.oom_kill_disable is None and machine.cgroup_version == 1:
        host.oom_kill_disable = False
    if config.working_dir:
        config.working_dir = "/" + posixpath.normpath(config.working_dir).lstrip("/")
    _settle_paths(host, machine)
    _settle_labels(engine, host)
    _settle_host_name(engine, container_id, config, host)
    return warnings


def _settle_paths(host: HostConfig, machine: Host) -> None:
    """A privileged container has no such paths: null, as Docker tells it."""
    if host.privileged:
        return
    unconfined = parse_security(host.security_opt or (), machine).unconfined_paths
    if host.masked_paths is None:
        host.masked_paths = [] if unconfined else list(MASKED_PATHS)
    if host.readonly_paths is None:
        host.readonly_paths = [] if unconfined else list(READONLY_PATHS)


def _settle_labels(engine: Engine, host: HostConfig) -> None:
    """What shares processes with the host or a container has no label of its own (SELinux): none,
    or that container's, as Docker tells it."""
    given = host.security_opt or []
    if any(option.startswith(("label=", "label:")) for option in given):
        return
    if host.privileged or "host" in {host.ipc_mode, host.pid_mode}:
        host.security_opt = [*given, "label=disable"]
    elif found := labels.of_others(
        *(_label_of(engine, mode) for mode in (host.ipc_mode, host.pid_mode))
    ):
        host.security_opt = [*given, *found]


def _label_of(engine: Engine, mode: str) -> str | None:
    """That of the container whose namespace is joined; None: it is none's."""
    kind, colon, reference = mode.partition(":")
    if kind != "container" or not colon:
        return None
    return others.find(engine, reference).record.process_label


def _label(engine: Engine, record: Record) -> None:
    words = parse_security(record.host.security_opt or (), engine.machine).label
    chosen = engine.labels.choose(words, privileged=record.host.privileged)
    record.process_label, record.mount_label = chosen


def _discarded(body: Mapping[str, Any]) -> list[str]:
    """Limits that older versions of the API had, and kernels have no more."""
    folded = {key.lower(): value for key, value in body.items()}
    host = {key.lower(): value for key, value in (folded.get("hostconfig") or {}).items()}
    return [
        f"{name} is no longer supported by kernels. {name} discarded."
        for name in ("KernelMemory", "KernelMemoryTCP")
        if host.get(name.lower())
    ]


def _settle_host_name(engine: Engine, container_id: str, config: Config, host: HostConfig) -> None:
    mode = host.network_mode
    if mode.startswith("container:"):
        other = others.find(engine, mode.partition(":")[2])
        host.network_mode = f"container:{other.id}"
        config.hostname, config.domainname = other.record.config.hostname, ""
    elif not config.hostname:
        config.hostname = engine.machine.hostname if mode == "host" else container_id[:12]
    if not host.cgroupns_mode:
        private = private_cgroup_namespace(host, engine.machine)
        plain = "private" if private else "host"
        host.cgroupns_mode = ("" if host.privileged else engine.defaults.cgroupns_mode) or plain


def _choose_name(engine: Engine, name: str) -> str:
    if name:
        return names.check_name(name)
    source = random.SystemRandom()
    for _ in range(NAME_TRIES):
        chosen = names.random_name(source)
        if not engine.catalogue.name_taken(chosen):
            return chosen
    return f"{names.random_name(source)}_{secrets.token_hex(3)}"


def _mounts(engine: Engine, config: Config, host: HostConfig) -> list[MountPoint]:
    return mounts.plan(
        config,
        host,
        new_volume=lambda: secrets.token_hex(32),
        exists=os.path.lexists,
        mounts_of=lambda reference: others.find(engine, reference).record.mounts,
        root=str(engine.paths.root),
    )


async def _snapshot(
    engine: Engine, container_id: str, image: Image, size: int, *, remapped: bool
) -> list[RootfsMount]:
    """An image that others put into containerd may lack its snapshots: made when missed."""
    try:
        return await engine.supervisor.prepare(
            container_id, image.chain_id, size, remapped=remapped
        )
    except errors.NotFound:
        await engine.images.ensure_unpacked(image)
        return await engine.supervisor.prepare(
            container_id, image.chain_id, size, remapped=remapped
        )


def storage_size(options: Mapping[str, str]) -> int:
    """The bytes that `--storage-opt size=...` allows; 0 for no limit. Raises InvalidArgument."""
    for name in options:
        if name != "size":
            raise errors.InvalidArgument(f"unknown storage option {name}: size is known")
    if "size" not in options:
        return 0
    size = size_bytes(options["size"], "storage option size")
    if not 0 < size <= STORAGE_MAX:
        raise errors.InvalidArgument(f"storage option size: {options['size']!r} is out of range")
    return size


async def _make_volumes(engine: Engine, record: Record) -> None:
    """Volumes exist, and are in use, from create on."""
    for point in record.mounts:
        if point.type == "volume":
            point.driver = await engine.volumes.reserve(
                point.name,
                record.id,
                anonymous=point.anonymous,
                driver=point.driver,
                labels=point.labels,
                options=point.options,
            )


async def _drop_volumes(engine: Engine, record: Record) -> None:
    await engine.volumes.release(record.id)
    for point in record.mounts:
        if point.anonymous:
            with suppress(errors.NotFound, errors.Conflict):
                await engine.volumes.remove(point.name)


async def _fill_volumes(engine: Engine, record: Record, rootfs: list[RootfsMount]) -> None:
    """An empty volume gets what the image has at its place."""
    for point in record.mounts:
        if point.type == "volume" and point.copy_up and engine.volumes.is_untouched(point.name):
            layers = layer_directories(rootfs)
            if is_directory(layers, point.destination):
                remap = engine.defaults.remap_of(record.host.userns_mode)
                await engine.volumes.populate(
                    point.name, layers, point.destination, remap.maps if remap else None
                )
