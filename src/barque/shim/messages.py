"""The messages the shim speaks, as tables for `barque.shim.wire`.

Sources: containerd's api/runtime/task/v2/shim.proto, api/events/task.proto, api/types/*.proto,
api/services/ttrpc/events/v1/events.proto, api/types/runc/options/oci.proto; ttrpc's request.proto;
google/rpc/status.proto and the well-known types.
"""

from __future__ import annotations

from barque.shim.wire import BOOL, BYTES, INT, MAP, MESSAGE, STRING, UINT, Field, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NANOSECONDS: Final = 1_000_000_000

EMPTY: Final = Table("google.protobuf.Empty")
TIMESTAMP: Final = Table(
    "google.protobuf.Timestamp", Field(1, "seconds", INT), Field(2, "nanos", INT)
)
ANY: Final = Table("google.protobuf.Any", Field(1, "type_url", STRING), Field(2, "value", BYTES))


def timestamp(nanoseconds: int) -> dict[str, int]:
    """A `TIMESTAMP` from nanoseconds since the epoch."""
    seconds, nanos = divmod(nanoseconds, NANOSECONDS)
    return {"seconds": seconds, "nanos": nanos}


# --- ttrpc ---------------------------------------------------------------------------------------
KEY_VALUE: Final = Table("ttrpc.KeyValue", Field(1, "key", STRING), Field(2, "value", STRING))
RPC_REQUEST: Final = Table(
    "ttrpc.Request",
    Field(1, "service", STRING),
    Field(2, "method", STRING),
    Field(3, "payload", BYTES),
    Field(4, "timeout_nano", INT),
    Field(5, "metadata", MESSAGE, KEY_VALUE, many=True),
)
RPC_STATUS: Final = Table(
    "google.rpc.Status",
    Field(1, "code", INT),
    Field(2, "message", STRING),
    Field(3, "details", MESSAGE, ANY, many=True),
)
RPC_RESPONSE: Final = Table(
    "ttrpc.Response", Field(1, "status", MESSAGE, RPC_STATUS), Field(2, "payload", BYTES)
)

# --- types ---------------------------------------------------------------------------------------
MOUNT: Final = Table(
    "containerd.types.Mount",
    Field(1, "type", STRING),
    Field(2, "source", STRING),
    Field(3, "target", STRING),
    Field(4, "options", STRING, many=True),
)
PROCESS_INFO: Final = Table(
    "containerd.v1.types.ProcessInfo", Field(1, "pid", UINT), Field(2, "info", MESSAGE, ANY)
)
ENVELOPE: Final = Table(
    "containerd.types.Envelope",
    Field(1, "timestamp", MESSAGE, TIMESTAMP),
    Field(2, "namespace", STRING),
    Field(3, "topic", STRING),
    Field(4, "event", MESSAGE, ANY),
)
RUNC_OPTIONS: Final = Table(
    "containerd.runc.v1.Options",
    Field(1, "no_pivot_root", BOOL),
    Field(2, "no_new_keyring", BOOL),
    Field(3, "shim_cgroup", STRING),
    Field(4, "io_uid", UINT),
    Field(5, "io_gid", UINT),
    Field(6, "binary_name", STRING),
    Field(7, "root", STRING),
    Field(8, "criu_path", STRING),
    Field(9, "systemd_cgroup", BOOL),
    Field(11, "criu_work_path", STRING),
)
# What containerd's Go client up to 1.7 sends to a runtime whose name is not one of runc's.
LINUX_OPTIONS: Final = Table(
    "containerd.linux.runc.CreateOptions",
    Field(1, "no_pivot_root", BOOL),
    Field(2, "open_tcp", BOOL),
    Field(3, "external_unix_sockets", BOOL),
    Field(4, "terminal", BOOL),
    Field(5, "file_locks", BOOL),
    Field(6, "empty_namespaces", STRING, many=True),
    Field(7, "cgroups_mode", STRING),
    Field(8, "no_new_keyring", BOOL),
    Field(9, "shim_cgroup", STRING),
    Field(10, "io_uid", UINT),
    Field(11, "io_gid", UINT),
    Field(12, "criu_work_path", STRING),
    Field(13, "criu_image_path", STRING),
)
# Of these, what is for criu when the task is restored: not by these options here.
RESTORE_OPTIONS: Final = (
    *("open_tcp", "external_unix_sockets", "terminal", "file_locks", "empty_namespaces"),
    *("cgroups_mode", "criu_image_path"),
)
CHECKPOINT_OPTIONS: Final = Table(
    "containerd.runc.v1.CheckpointOptions",
    Field(1, "exit", BOOL),
    Field(2, "open_tcp", BOOL),
    Field(3, "external_unix_sockets", BOOL),
    Field(4, "terminal", BOOL),
    Field(5, "file_locks", BOOL),
    Field(6, "empty_namespaces", STRING, many=True),
    Field(7, "cgroups_mode", STRING),
    Field(8, "image_path", STRING),
    Field(9, "work_path", STRING),
)
PROCESS_DETAILS: Final = Table("containerd.runc.v1.ProcessDetails", Field(1, "exec_id", STRING))

# Values of containerd.v1.types.Status.
UNKNOWN: Final = 0
CREATED: Final = 1
RUNNING: Final = 2
STOPPED: Final = 3
PAUSED: Final = 4
PAUSING: Final = 5

# --- containerd.task.v2.Task ---------------------------------------------------------------------
TASK_SERVICES: Final = ("containerd.task.v2.Task", "containerd.task.v3.Task")
PACKAGE: Final = "containerd.task.v2."


def _process(name: str, *more: Field) -> Table:
    return Table(PACKAGE + name, Field(1, "id", STRING), Field(2, "exec_id", STRING), *more)


def _exit(name: str, first: int, *more: Field) -> Table:
    status = Field(first, "exit_status", UINT)
    return Table(PACKAGE + name, *more, status, Field(first + 1, "exited_at", MESSAGE, TIMESTAMP))


CREATE_REQUEST: Final = Table(
    PACKAGE + "CreateTaskRequest",
    Field(1, "id", STRING),
    Field(2, "bundle", STRING),
    Field(3, "rootfs", MESSAGE, MOUNT, many=True),
    Field(4, "terminal", BOOL),
    Field(5, "stdin", STRING),
    Field(6, "stdout", STRING),
    Field(7, "stderr", STRING),
    Field(8, "checkpoint", STRING),
    Field(9, "parent_checkpoint", STRING),
    Field(10, "options", MESSAGE, ANY),
)
CREATE_RESPONSE: Final = Table(PACKAGE + "CreateTaskResponse", Field(1, "pid", UINT))
DELETE_REQUEST: Final = _process("DeleteRequest")
DELETE_RESPONSE: Final = _exit("DeleteResponse", 2, Field(1, "pid", UINT))
EXEC_REQUEST: Final = _process(
    "ExecProcessRequest",
    Field(3, "terminal", BOOL),
    Field(4, "stdin", STRING),
    Field(5, "stdout", STRING),
    Field(6, "stderr", STRING),
    Field(7, "spec", MESSAGE, ANY),
)
RESIZE_REQUEST: Final = _process(
    "ResizePtyRequest", Field(3, "width", UINT), Field(4, "height", UINT)
)
STATE_REQUEST: Final = _process("StateRequest")
STATE_RESPONSE: Final = Table(
    PACKAGE + "StateResponse",
    Field(1, "id", STRING),
    Field(2, "bundle", STRING),
    Field(3, "pid", UINT),
    Field(4, "status", UINT),
    Field(5, "stdin", STRING),
    Field(6, "stdout", STRING),
    Field(7, "stderr", STRING),
    Field(8, "terminal", BOOL),
    Field(9, "exit_status", UINT),
    Field(10, "exited_at", MESSAGE, TIMESTAMP),
    Field(11, "exec_id", STRING),
)
KILL_REQUEST: Final = _process("KillRequest", Field(3, "signal", UINT), Field(4, "all", BOOL))
CLOSE_IO_REQUEST: Final = _process("CloseIORequest", Field(3, "stdin", BOOL))
PIDS_REQUEST: Final = Table(PACKAGE + "PidsRequest", Field(1, "id", STRING))
PIDS_RESPONSE: Final = Table(
    PACKAGE + "PidsResponse", Field(1, "processes", MESSAGE, PROCESS_INFO, many=True)
)
CHECKPOINT_REQUEST: Final = Table(
    PACKAGE + "CheckpointTaskRequest",
    Field(1, "id", STRING),
    Field(2, "path", STRING),
    Field(3, "options", MESSAGE, ANY),
)
UPDATE_REQUEST: Final = Table(
    PACKAGE + "UpdateTaskRequest",
    Field(1, "id", STRING),
    Field(2, "resources", MESSAGE, ANY),
    Field(3, "annotations", MAP),
)
START_REQUEST: Final = _process("StartRequest")
START_RESPONSE: Final = Table(PACKAGE + "StartResponse", Field(1, "pid", UINT))
WAIT_REQUEST: Final = _process("WaitRequest")
WAIT_RESPONSE: Final = _exit("WaitResponse", 1)
STATS_REQUEST: Final = Table(PACKAGE + "StatsRequest", Field(1, "id", STRING))
STATS_RESPONSE: Final = Table(PACKAGE + "StatsResponse", Field(1, "stats", MESSAGE, ANY))
CONNECT_REQUEST: Final = Table(PACKAGE + "ConnectRequest", Field(1, "id", STRING))
CONNECT_RESPONSE: Final = Table(
    PACKAGE + "ConnectResponse",
    Field(1, "shim_pid", UINT),
    Field(2, "task_pid", UINT),
    Field(3, "version", STRING),
)
SHUTDOWN_REQUEST: Final = Table(
    PACKAGE + "ShutdownRequest", Field(1, "id", STRING), Field(2, "now", BOOL)
)
PAUSE_REQUEST: Final = Table(PACKAGE + "PauseRequest", Field(1, "id", STRING))
RESUME_REQUEST: Final = Table(PACKAGE + "ResumeRequest", Field(1, "id", STRING))

# Each method's request and answer, in the order of the service's definition.
METHODS: Final[dict[str, tuple[Table, Table]]] = {
    "State": (STATE_REQUEST, STATE_RESPONSE),
    "Create": (CREATE_REQUEST, CREATE_RESPONSE),
    "Start": (START_REQUEST, START_RESPONSE),
    "Delete": (DELETE_REQUEST, DELETE_RESPONSE),
    "Pids": (PIDS_REQUEST, PIDS_RESPONSE),
    "Pause": (PAUSE_REQUEST, EMPTY),
    "Resume": (RESUME_REQUEST, EMPTY),
    "Checkpoint": (CHECKPOINT_REQUEST, EMPTY),
    "Kill": (KILL_REQUEST, EMPTY),
    "Exec": (EXEC_REQUEST, EMPTY),
    "ResizePty": (RESIZE_REQUEST, EMPTY),
    "CloseIO": (CLOSE_IO_REQUEST, EMPTY),
    "Update": (UPDATE_REQUEST, EMPTY),
    "Wait": (WAIT_REQUEST, WAIT_RESPONSE),
    "Stats": (STATS_REQUEST, STATS_RESPONSE),
    "Connect": (CONNECT_REQUEST, CONNECT_RESPONSE),
    "Shutdown": (SHUTDOWN_REQUEST, EMPTY),
}

# --- events --------------------------------------------------------------------------------------
EVENTS_SERVICE: Final = "containerd.services.events.ttrpc.v1.Events"
FORWARD_REQUEST: Final = Table(
    "containerd.services.events.ttrpc.v1.ForwardRequest", Field(1, "envelope", MESSAGE, ENVELOPE)
)
EVENTS: Final = "containerd.events."


def _task(name: str, *more: Field) -> Table:
    return Table(EVENTS + name, Field(1, "container_id", STRING), *more)


TASK_IO: Final = Table(
    EVENTS + "TaskIO",
    Field(1, "stdin", STRING),
    Field(2, "stdout", STRING),
    Field(3, "stderr", STRING),
    Field(4, "terminal", BOOL),
)
# Each topic's event.
TASK_EVENTS: Final[dict[str, Table]] = {
    "/tasks/create": _task(
        "TaskCreate",
        Field(2, "bundle", STRING),
        Field(3, "rootfs", MESSAGE, MOUNT, many=True),
        Field(4, "io", MESSAGE, TASK_IO),
        Field(5, "checkpoint", STRING),
        Field(6, "pid", UINT),
    ),
    "/tasks/start": _task("TaskStart", Field(2, "pid", UINT)),
    "/tasks/delete": _task(
        "TaskDelete",
        Field(2, "pid", UINT),
        Field(3, "exit_status", UINT),
        Field(4, "exited_at", MESSAGE, TIMESTAMP),
        Field(5, "id", STRING),
    ),
    "/tasks/exit": _task(
        "TaskExit",
        Field(2, "id", STRING),
        Field(3, "pid", UINT),
        Field(4, "exit_status", UINT),
        Field(5, "exited_at", MESSAGE, TIMESTAMP),
    ),
    "/tasks/oom": _task("TaskOOM"),
    "/tasks/exec-added": _task("TaskExecAdded", Field(2, "exec_id", STRING)),
    "/tasks/exec-started": _task(
        "TaskExecStarted", Field(2, "exec_id", STRING), Field(3, "pid", UINT)
    ),
    "/tasks/paused": _task("TaskPaused"),
    "/tasks/resumed": _task("TaskResumed"),
    "/tasks/checkpointed": _task("TaskCheckpointed", Field(2, "checkpoint", STRING)),
}
