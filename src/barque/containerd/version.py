"""gRPC Version and Introspection: what this server is and what it has."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

import barque
from barque.containerd import filters
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.messages import lookup
from barque.containerd.proto import introspection_pb2 as api
from barque.containerd.proto import version_pb2
from barque.containerd.proto.introspection_types_pb2 import RuntimeInfo, RuntimeRequest
from barque.containerd.proto.rpc_status_pb2 import Status
from barque.containerd.proto.types_pb2 import Platform
from barque.containerd.shims.launch import runtime_info
from barque.errors import InvalidArgument, NotFound, Unsupported
from barque.linux.fs import write_atomic

# Clients compare the version with the containerd whose API they know.
API_VERSION = "1.7.0"
RUNTIMES = ("io.containerd.runtime.v2", "task")  # the plugin that knows of shims
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
                "PluginInfo": self.plugin_info,
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
        name = (request.type, request.id)
        plugin = next((one for one in self._plugins if (one.type, one.id) == name), None)
        if plugin is None:
            raise NotFound(f"plugin {request.type}.{request.id}: not found")
        answer = api.PluginInfoResponse(plugin=_message(plugin))
        if request.HasField("options"):
            if name != RUNTIMES:
                raise Unsupported(f"plugin {request.type}.{request.id} has nothing more to tell")
            answer.extra.CopyFrom(await _runtime_info(request.options))
        return answer


async def _runtime_info(options: AnyMessage) -> AnyMessage:
    """What the shim that the options name says of itself."""
    if options.type_url.rpartition("/")[2] != RuntimeRequest.DESCRIPTOR.full_name:
        raise Unsupported(f"unknown request type {options.type_url}")
    try:
        wanted = RuntimeRequest.FromString(options.value)
        given = wanted.options if wanted.HasField("options") else None
        told = await runtime_info(wanted.runtime_path, given)
        value = RuntimeInfo.FromString(told).SerializeToString()
    except DecodeError as error:
        raise InvalidArgument(
            f"malformed request, or information, of a runtime: {error}"
        ) from error
    return AnyMessage(type_url=RuntimeInfo.DESCRIPTOR.full_name, value=value)


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
