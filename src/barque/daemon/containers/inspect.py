"""A container as the API tells of it, whole: ContainerInspectResponse."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import Any

from barque import errors
from barque.daemon.containers import apparmor, execs
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import document
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.record import MountPoint, Record
from barque.daemon.containers.state import HealthState, Status
from barque.daemon.storage import driver_of

OVERLAYS = frozenset({"overlayfs", "erofs"})


def inspect(engine: Engine, container: Container) -> dict[str, Any]:
    record, paths = container.record, engine.paths
    directory = paths.container(container.id)
    log_path = ""  # a local log is not told: its format is nobody's business
    if record.host.log_config.type == "json-file":
        log_path = str(paths.container_log(container.id, "json-file"))
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": state(container),
        "Image": record.image,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": log_path,
        "Name": f"/{record.name}",
        "RestartCount": container.state.restart_count,
        "Driver": driver_of(record.driver),
        "Platform": "linux",
        "MountLabel": record.mount_label,
        "ProcessLabel": record.process_label,
        "AppArmorProfile": apparmor.profile_of(record, engine.machine),
        "ExecIDs": execs.unfinished(engine, container) or None,
        "HostConfig": host_config(engine, container),
        "GraphDriver": {"Name": driver_of(record.driver), "Data": graph_data(container)},
        "Mounts": mount_points(record, engine),
        "Config": config(container),
        "NetworkSettings": engine.networks.settings(
            container.id, record.host.network_mode, record.endpoints
        ),
    }


def graph_data(container: Container) -> dict[str, str] | None:
    """The directories of an overlay, where its snapshot was asked for already; else nothing."""
    if container.record.driver not in OVERLAYS:
        return None
    names = {"upperdir": "UpperDir", "lowerdir": "LowerDir", "workdir": "WorkDir"}
    options = [
        option.partition("=") for mount in container.rootfs or () for option in mount.options
    ]
    return {names[key]: value for key, _, value in options if key in names}


def state(container: Container) -> dict[str, Any]:
    now = container.state
    restarting = now.status is Status.RESTARTING
    return {
        "Status": str(now.status),
        "Running": now.running or restarting,
        "Paused": now.status is Status.PAUSED,
        "Restarting": restarting,
        "OOMKilled": now.oom_killed,
        "Dead": False,
        "Pid": now.pid,
        "ExitCode": now.exit_code,
        "Error": now.error,
        "StartedAt": now.started_at,
        "FinishedAt": now.finished_at,
        **({"Health": health(now.health)} if now.health else {}),
    }


def health(now: HealthState) -> dict[str, Any]:
    """API: Health."""
    return {
        "Status": now.status,
        "FailingStreak": now.failing_streak,
        "Log": [
            {
                "Start": entry.start,
                "End": entry.end,
                "ExitCode": entry.exit_code,
                "Output": entry.output,
            }
            for entry in now.log
        ],
    }


def config(container: Container) -> dict[str, Any]:
    """ContainerConfig without the keys that Docker leaves out when they are empty."""
    plain = document(container.record.config)
    for key in ("ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "Shell"):
        if not plain.get(key):
            plain.pop(key, None)
    for key in ("MacAddress", "NetworkDisabled", "ArgsEscaped"):
        if not plain.get(key):
            plain.pop(key, None)
    return plain


def host_config(engine: Engine, container: Container) -> dict[str, Any]:
    plain = document(container.record.host) | {"Links": links(engine, container) or None}
    for key in ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "HealthOnFailure"):
        if not plain.get(key):
            plain.pop(key, None)
    if plain.get("Init") is None:
        plain.pop("Init", None)
    for key in ("Delay", "MaximumDelay", "Window"):
        if not plain["RestartPolicy"][key]:
            del plain["RestartPolicy"][key]
    return plain


def links(engine: Engine, container: Container) -> list[str]:
    """Those of the default network, as Docker tells them: `/theirs:/ours/alias`."""
    found = []
    for target, alias in container.record.legacy_links:
        with suppress(errors.NotFound):
            name = engine.catalogue.find(target).record.name
            found.append(f"/{name}:/{container.record.name}/{alias}")
    return found


def mount_points(record: Record, engine: Engine) -> list[dict[str, Any]]:
    """Without those of `--tmpfs`: HostConfig tells of them."""
    plain = {posixpath.normpath(destination) for destination in record.host.tmpfs or ()}
    return [
        mount_point(point, engine)
        for point in record.mounts
        if not (point.type == "tmpfs" and point.destination in plain)
    ]


def mount_point(point: MountPoint, engine: Engine | None = None) -> dict[str, Any]:
    """API: MountPoint."""
    plain: dict[str, Any] = {"Type": point.type}
    if point.type == "volume":
        source = engine.volumes.data_path(point.name) if engine is not None else ""
        plain |= {"Name": point.name, "Source": source, "Driver": point.driver}
    elif point.type == "image":
        plain |= {"Name": point.name, "Source": point.source}
    else:
        plain["Source"] = point.source
    return plain | {
        "Destination": point.destination,
        "Mode": point.mode,
        "RW": point.rw,
        "Propagation": point.propagation,
    }
