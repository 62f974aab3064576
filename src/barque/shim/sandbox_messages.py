"""The messages of containerd.runtime.sandbox.v1.Sandbox, as tables for `barque.shim.wire`.

Source: containerd, api/runtime/sandbox/v1/sandbox.proto, api/types/{platform,metrics}.proto.
"""

from __future__ import annotations

from barque.shim.messages import ANY, MOUNT, TIMESTAMP
from barque.shim.wire import BOOL, MAP, MESSAGE, STRING, UINT, Field, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PACKAGE: Final = "containerd.runtime.sandbox.v1."
SERVICE: Final = PACKAGE + "Sandbox"

PLATFORM: Final = Table(
    "containerd.types.Platform",
    Field(1, "os", STRING),
    Field(2, "architecture", STRING),
    Field(3, "variant", STRING),
)
METRIC: Final = Table(
    "containerd.types.Metric",
    Field(1, "timestamp", MESSAGE, TIMESTAMP),
    Field(2, "id", STRING),
    Field(3, "data", MESSAGE, ANY),
)


def _of_one(name: str, *more: Field) -> Table:
    return Table(PACKAGE + name, Field(1, "sandbox_id", STRING), *more)


# Each method's request and answer, in the order of the service's definition.
METHODS: Final[dict[str, tuple[Table, Table]]] = {
    "CreateSandbox": (
        _of_one(
            "CreateSandboxRequest",
            Field(2, "bundle_path", STRING),
            Field(3, "rootfs", MESSAGE, MOUNT, many=True),
            Field(4, "options", MESSAGE, ANY),
            Field(5, "netns_path", STRING),
            Field(6, "annotations", MAP),
        ),
        Table(PACKAGE + "CreateSandboxResponse"),
    ),
    "StartSandbox": (
        _of_one("StartSandboxRequest"),
        Table(
            PACKAGE + "StartSandboxResponse",
            Field(1, "pid", UINT),
            Field(2, "created_at", MESSAGE, TIMESTAMP),
        ),
    ),
    "Platform": (
        _of_one("PlatformRequest"),
        Table(PACKAGE + "PlatformResponse", Field(1, "platform", MESSAGE, PLATFORM)),
    ),
    "StopSandbox": (
        _of_one("StopSandboxRequest", Field(2, "timeout_secs", UINT)),
        Table(PACKAGE + "StopSandboxResponse"),
    ),
    "WaitSandbox": (
        _of_one("WaitSandboxRequest"),
        Table(
            PACKAGE + "WaitSandboxResponse",
            Field(1, "exit_status", UINT),
            Field(2, "exited_at", MESSAGE, TIMESTAMP),
        ),
    ),
    "SandboxStatus": (
        _of_one("SandboxStatusRequest", Field(2, "verbose", BOOL)),
        _of_one(
            "SandboxStatusResponse",
            Field(2, "pid", UINT),
            Field(3, "state", STRING),
            Field(4, "info", MAP),
            Field(5, "created_at", MESSAGE, TIMESTAMP),
            Field(6, "exited_at", MESSAGE, TIMESTAMP),
        ),
    ),
    "PingSandbox": (_of_one("PingRequest"), Table(PACKAGE + "PingResponse")),
    "ShutdownSandbox": (
        _of_one("ShutdownSandboxRequest"),
        Table(PACKAGE + "ShutdownSandboxResponse"),
    ),
    "SandboxMetrics": (
        _of_one("SandboxMetricsRequest"),
        Table(PACKAGE + "SandboxMetricsResponse", Field(1, "metrics", MESSAGE, METRIC)),
    ),
}
