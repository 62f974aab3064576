"""containerd's TOML file: which keys we obey, and which say only what is so anyway.

Source: containerd, docs/man/containerd-config.toml.5.md; `containerd config default` of 1.6
(version 2) and of 2.x (version 3). A key that containerd does not have is refused; so is, by
name, each setting of what is not there, unless `disabled_plugins` names its plugin. A key that
says what containerd's default is, which changes nothing, may be there.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from barque.errors import InvalidArgument, NotFound, Unsupported
from barque.oci.image import host_platform

VERSIONS = (1, 2, 3)
PLUGINS = "plugins"
DEVMAPPER = "io.containerd.snapshotter.v1.devmapper"
POOL = ("pool_name", "root_path", "base_image_size", "fs_type", "fs_options", "discard_blocks")
CRI = "io.containerd.grpc.v1.cri"
CRIS = frozenset({"cri", CRI, "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"})
LISTS = ("disabled_plugins", "required_plugins")
MESSAGE_BYTES = 16 << 20  # that a message has at most, and no other number
HOST = f"linux/{host_platform(os.uname().machine).architecture}"
ROOT_PATH: Mapping[str, Any] = {"root_path": ""}


def _decrypting(kind: str) -> dict[str, Any]:
    """The processor of encrypted layers that is in containerd's own file; we refuse such layers."""
    layer, named = "application/vnd.oci.image.layer.v1.tar", f"ocicrypt.decoder.v1.tar{kind}"
    keys = "/etc/containerd/ocicrypt"
    section = {
        "accepts": [f"{layer}{kind.replace('.', '+')}+encrypted"],
        "args": ["--decryption-keys-path", f"{keys}/keys"],
        "env": [f"OCICRYPT_KEYPROVIDER_CONFIG={keys}/ocicrypt_keyprovider.conf"],
        "path": "ctd-decoder",
        "returns": f"{layer}{kind.replace('.', '+')}",
    }
    return {f"stream_processors.io.containerd.{named}.{key}": one for key, one in section.items()}


# What may be said beside what is obeyed: a key, and its only value. Sections by their dotted name.
IDLE: Mapping[str, Any] = {
    "grpc.max_recv_message_size": MESSAGE_BYTES,
    "grpc.max_send_message_size": MESSAGE_BYTES,
    "grpc.tcp_address": "",
    "grpc.tcp_tls_cert": "",
    "grpc.tcp_tls_key": "",
    "grpc.tcp_tls_ca": "",
    "grpc.tcp_tls_common_name": "",
    "ttrpc.address": "",
    "ttrpc.uid": 0,
    "ttrpc.gid": 0,
    "debug.address": "",
    "debug.uid": 0,
    "debug.gid": 0,
    "plugin_dir": "",
    "temp": "",
    "timeouts.io.containerd.timeout.bolt.open": "0s",
    "timeouts.io.containerd.timeout.cri.defercleanup": "1m0s",
    "timeouts.io.containerd.timeout.metrics.shimstats": "2s",
    "timeouts.io.containerd.timeout.shim.cleanup": "5s",
    "timeouts.io.containerd.timeout.shim.load": "5s",
    "timeouts.io.containerd.timeout.shim.shutdown": "3s",
    "timeouts.io.containerd.timeout.task.state": "2s",
    **_decrypting(""),
    **_decrypting(".gzip"),
}
# The same for plugins. What has no keys here has none in containerd, or none with one value.
IDLE_PLUGINS: Mapping[str, Mapping[str, Any]] = {
    "io.containerd.gc.v1.scheduler": {
        "deletion_threshold": 0,
        "mutation_threshold": 100,
        "pause_threshold": 0.02,
        "schedule_delay": "0s",
        "startup_delay": "100ms",
    },
    "io.containerd.internal.v1.opt": {"path": "/opt/containerd"},
    "io.containerd.internal.v1.restart": {},
    "io.containerd.internal.v1.tracing": {},
    "io.containerd.image-verifier.v1.bindir": {
        "bin_dir": "/opt/containerd/image-verifier/bin",
        "max_verifiers": 10,
        "per_verifier_timeout": "10s",
    },
    "io.containerd.metadata.v1.bolt": {"content_sharing_policy": "shared", "no_sync": False},
    "io.containerd.metrics.v1.grpc-prometheus": {},
    "io.containerd.monitor.container.v1.restart": {},
    "io.containerd.monitor.task.v1.cgroups": {"no_prometheus": False},
    "io.containerd.monitor.v1.cgroups": {"no_prometheus": False},
    "io.containerd.nri.v1.nri": {"disable": True},
    "io.containerd.runtime.v1.linux": {
        "no_shim": False,
        "runtime": "runc",
        "runtime_root": "",
        "shim": "containerd-shim",
        "shim_debug": False,
    },
    "io.containerd.runtime.v2.task": {"platforms": [HOST], "sched_core": False},
    "io.containerd.service.v1.diff-service": {"default": ["walking"], "sync_fs": False},
    "io.containerd.service.v1.tasks-service": {"blockio_config_file": "", "rdt_config_file": ""},
    "io.containerd.shim.v1.manager": {"env": [], "socket_dir": ""},
    "io.containerd.snapshotter.v1.aufs": ROOT_PATH,
    "io.containerd.snapshotter.v1.blockfile": {
        "root_path": "",
        "scratch_file": "",
        "fs_type": "",
        "mount_options": [],
        "recreate_scratch": False,
    },
    "io.containerd.snapshotter.v1.btrfs": ROOT_PATH,
    DEVMAPPER: {
        "root_path": "",
        "pool_name": "",
        "base_image_size": "",
        "async_remove": False,
        "discard_blocks": False,
        "fs_type": "",
        "fs_options": "",
    },
    "io.containerd.snapshotter.v1.erofs": {
        "root_path": "",
        "ovl_mount_options": [],
        "enable_fsverity": False,
        "set_immutable": False,
        "default_size": "",
        "dmverity_mode": "",
    },
    "io.containerd.snapshotter.v1.native": ROOT_PATH,
    "io.containerd.snapshotter.v1.overlayfs": {
        "root_path": "",
        "upperdir_label": False,
        "sync_remove": False,
        "slow_chown": False,
        "mount_options": [],
    },
    "io.containerd.snapshotter.v1.zfs": ROOT_PATH,
    "io.containerd.tracing.processor.v1.otlp": {},
    "io.containerd.transfer.v1.local": {
        "max_concurrent_downloads": 3,
        "max_concurrent_uploaded_layers": 3,
        "concurrent_layer_fetch_buffer": 0,
        "check_platform_supported": False,
        "config_path": "",
        "max_concurrent_unpacks": 1,
    },
}
WHY = {
    "debug.address": "profiles of Go programs are not there",
    "grpc.tcp_address": "the server listens on its unix socket alone",
    "proxy_plugins": "plugins of other processes are not there",
    "stream_processors": "layers are not given to other programs",
}


def read(path: str) -> dict[str, Any]:
    """The file with all that it imports. Raises NotFound, InvalidArgument for what is no TOML."""
    whole: dict[str, Any] = {}
    for document in _with_imports(path, set()):
        _merge(whole, document)
    return whole


def settings(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys that may be obeyed, by their dotted names, sections of plugins among them.

    Raises InvalidArgument for a version, a section or a plugin that is unknown, and Unsupported
    for what we do not have.
    """
    version = document.get("version", 1)
    if version not in VERSIONS:
        raise Unsupported(f"configuration version {version!r} is not supported: 1 to 3 are")
    off = document.get("disabled_plugins", [])
    for key, value in _flat({name: one for name, one in document.items() if name != PLUGINS}):
        if key == "version" or _is_idle(key, value, IDLE):
            continue
        section = key.partition(".")[0]
        if section in WHY:
            raise Unsupported(f"configuration key {key} is not supported: {WHY[section]}")
        yield key, value
    for plugin, section in document.get(PLUGINS, {}).items():
        if plugin in off or (plugin in CRIS and not CRIS.isdisjoint(off)):
            continue
        if plugin in CRIS:
            raise Unsupported(f"plugin {plugin} is not there: name it in disabled_plugins")
        if plugin not in IDLE_PLUGINS or not isinstance(section, dict):
            raise InvalidArgument(f"unknown plugin {plugin} in the configuration")
        idle = IDLE_PLUGINS[plugin]
        for key, value in _flat(section):
            if not _is_idle(key, value, idle):
                yield f"{PLUGINS}.{plugin}.{key}", value


def refuse(key: str) -> None:
    """Raises what says why a key that is not obeyed cannot be there."""
    plugin, _, name = key.removeprefix(f"{PLUGINS}.").rpartition(".")
    known = key in IDLE or name in IDLE_PLUGINS.get(plugin, {})
    if known:
        why = f": {WHY[key]}" if key in WHY else ""
        raise Unsupported(f"configuration key {key} is not supported with another value{why}")
    raise InvalidArgument(f"unknown configuration key {key}")


def _is_idle(key: str, value: Any, idle: Mapping[str, Any]) -> bool:
    return key in idle and type(value) is type(idle[key]) and value == idle[key]


def _with_imports(path: str, seen: set[str]) -> Iterator[dict[str, Any]]:
    """A document, then those that it imports, each once."""
    if path in seen:
        return
    seen.add(path)
    document = _parsed(path)
    imports = document.pop("imports", [])
    if not isinstance(imports, list) or not all(isinstance(one, str) for one in imports):
        raise InvalidArgument(f"imports must be a list of paths: {imports!r}")
    yield document
    for one in imports:
        place = str(Path(path).absolute().parent / one)
        for found in sorted(glob(place)) if glob(place) or "*" in one else [place]:
            yield from _with_imports(found, seen)


def _parsed(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise NotFound(f"configuration file {path} does not exist") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"configuration file {path}: {error}") from error


def _merge(whole: dict[str, Any], more: Mapping[str, Any]) -> None:
    """The later says more: key by key, a plugin's section as a whole, lists of plugins together."""
    for key, value in more.items():
        known = whole.get(key)
        if key in LISTS and isinstance(known, list) and isinstance(value, list):
            whole[key] = [*known, *value]
        elif isinstance(known, dict) and isinstance(value, dict):
            whole[key] = {**known, **value}
        else:
            whole[key] = value


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found
