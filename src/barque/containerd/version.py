"""gRPC Version and Introspection: what this server is and what it has."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from google.protobuf.empty_pb2 import Empty

import barque
from barque.containerd import filters
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.messages import lookup
from barque.containerd.proto import introspection_pb2 as api
from barque.containerd.proto import version_pb2
from barque.containerd.proto.rpc_status_pb2 import Status
from barque.containerd.proto.types_pb2 import Platform
from barque.errors import NotFound
from barque.linux.fs import write_atomic

# Clients compare the version with the containerd whose API they know.
API_VERSION = "1.7.0"
UNKNOWN = 2  # gRPC's code of an error that has none
REVISION = f"barque-{barque.__version__}"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class Plugin(NamedTuple):
    """A part of this server, in containerd's terms."""

    type: str
    id: str
    exports: dict[str, str] = {}
    missing: Callable[[], str] = lambda: ""
    """Why it is not loaded; "" when it is."""
    capabilities: Callable[[], tuple[str, ...]] = lambda: ()
    """Asked only of one that is loaded."""


class Version:
    def service(self) -> Service:
        return Service(
            version_pb2.DESCRIPTOR.services_by_name["Version"], {"Version": AtOnce(self.version)}
        )

    async def version(self, call: Call, request: Empty) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version=f"v{API_VERSION}+barque", revision=REVISION)


class Introspection:
    def __init__(self, plugins: Iterable[Plugin], server_id: str) -> None:
        self._plugins = tuple(plugins)
        self._server_id = server_id

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Introspection"],
            {
                "Plugins": AtOnce(self.plugins),
                "Server": AtOnce(self.server),
                "PluginInfo": AtOnce(self.plugin_info),
            },
        )

    async def plugins(self, call: Call, request: api.PluginsRequest) -> api.PluginsResponse:
        accepts = filters.any_of(filters.parse_all(request.filters))
        found = [one for one in self._plugins if accepts(lookup({"type": one.type, "id": one.id}))]
        return api.PluginsResponse(plugins=map(_message, found))

    async def server(self, call: Call, request: Empty) -> api.ServerResponse:
        pid_namespace = os.stat("/proc/self/ns/pid").st_ino
        return api.ServerResponse(uuid=self._server_id, pid=os.getpid(), pidns=pid_namespace)

    async def plugin_info(
        self, call: Call, request: api.PluginInfoRequest
    ) -> api.PluginInfoResponse:
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                return api.PluginInfoResponse(plugin=_message(plugin))
        raise NotFound(f"plugin {request.type}.{request.id}: not found")


def platform() -> Platform:
    machine = os.uname().machine
    return Platform(os="linux", architecture=ARCHITECTURES.get(machine, machine))


def server_id(path: Path) -> str:
    """This server's name for as long as its root exists."""
    try:
        return str(uuid.UUID(path.read_text().strip()))
    except (FileNotFoundError, ValueError):
        made = str(uuid.uuid4())
        write_atomic(str(path), made.encode(), durable=True)
        return made


def _message(plugin: Plugin) -> api.Plugin:
    reason = plugin.missing()
    return api.Plugin(
        type=plugin.type,
        id=plugin.id,
        platforms=[platform()],
        exports=plugin.exports,
        capabilities=() if reason else plugin.capabilities(),
        init_err=Status(code=UNKNOWN, message=f"{reason}: skip plugin") if reason else None,
    )
