"""The Sandbox service: the pod that this shim is for, kept by a first process of its own.

    CreateSandbox    its namespaces, by a container that is no task: nobody hears of it but here
    StartSandbox     its process runs; containers join the namespaces by its pid
    (Task service)   the pod's containers, as in any shim of several
    StopSandbox      its process is asked to end, then killed; the containers are their owner's
    ShutdownSandbox  containers, sandbox and shim end, and nothing of them is left

Source: containerd, api/runtime/sandbox/v1/sandbox.proto and core/sandbox.
"""

from __future__ import annotations

import os
import time

from barque.errors import AlreadyExists, BarqueError, NotFound, Unsupported
from barque.shim import messages, paths, pods
from barque.shim import sandbox_messages as api
from barque.shim.container import Host, write_private
from barque.shim.service import Tasks
from barque.shim.wire import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Loop, Routine
    from barque.shim.server import Method

    Values = dict[str, Any]

READY: Final = "SANDBOX_READY"
NOT_READY: Final = "SANDBOX_NOTREADY"
SIGTERM: Final = 15
STOP_S: Final = 10  # where the request says nothing
NO_STREAMS: Final = {
    "terminal": False,
    "stdin": "",
    "stdout": "",
    "stderr": "",
    "checkpoint": "",
    "parent_checkpoint": "",
}


class Sandbox:
    """The sandbox of one shim, if there is one: until it is created every call is NotFound."""

    def __init__(
        self,
        loop: Loop,
        host: Host,
        tasks: Tasks,
        options: bytes,
        shut_down: Callable[[], None],
    ) -> None:
        """`options`: an encoded Any, the runtime's options as `start` was given them."""
        self._loop = loop
        self._tasks = tasks
        self._options = options
        self._shut_down = shut_down
        self._host = host
        self._first = Tasks(loop, host.silent(), lambda: None)  # never more than one
        self.id = ""
        self._created_ns = 0
        self._pauses = False  # its process does nothing: it can be killed at once

    def methods(self) -> dict[tuple[str, str], Method]:
        by_name: dict[str, Callable[[Values], Any]] = {
            "CreateSandbox": self.create,
            "StartSandbox": self.start,
            "Platform": self.platform,
            "StopSandbox": self.stop,
            "WaitSandbox": self.wait,
            "SandboxStatus": self.status,
            "PingSandbox": self.ping,
            "ShutdownSandbox": self.shutdown,
            "SandboxMetrics": self.metrics,
        }
        return {
            (api.SERVICE, name): (*api.METHODS[name], method) for name, method in by_name.items()
        }

    # from one worker to the next

    def save(self) -> Values | None:
        """What `restore` wants; None: not now."""
        first = self._first.save()
        if first is None:
            return None
        kept = {"id": self.id, "created": self._created_ns, "pauses": self._pauses}
        return {**kept, "first": first}

    def restore(self, saved: Values) -> None:
        self.id, self._created_ns = saved["id"], saved["created"]
        self._pauses = saved["pauses"]
        self._first.restore(saved["first"])

    # life

    def create(self, request: Values) -> Routine:
        """All or nothing. A shim has one sandbox."""
        identity = paths.check_id("sandbox id", request["sandbox_id"])
        if self.id:
            raise AlreadyExists(f'sandbox "{self.id}": already exists')
        bundle = request["bundle_path"]
        options = self._runtime_options(identity, request["options"])
        spec, mounts, pauses = pods.described(bundle, self._host.namespace, request)
        write_private(paths.bundle_file(bundle, paths.CONFIG), spec)
        os.makedirs(paths.bundle_file(bundle, paths.ROOTFS), mode=0o711, exist_ok=True)
        self.id = identity
        try:
            wanted = {"id": identity, "bundle": bundle, "rootfs": mounts, "options": options}
            yield from self._first.create({**NO_STREAMS, **wanted})
        except BaseException:
            self.id = ""
            raise
        self._created_ns, self._pauses = time.time_ns(), pauses
        return {}

    def _runtime_options(self, identity: str, given: Values | None) -> Values | None:
        """Those of the request, or else of the shim's start."""
        if given is None or not given["type_url"]:
            return decode(messages.ANY, self._options) if self._options else None
        name = given["type_url"].rpartition("/")[2]
        if name != messages.RUNC_OPTIONS.name:
            raise Unsupported(f"sandbox {identity}: options of type {name} are not supported")
        return given

    def start(self, request: Values) -> Routine:
        answer = yield from self._first.start(self._target(request))
        return {"pid": answer["pid"], "created_at": messages.timestamp(self._created_ns)}

    def stop(self, request: Values) -> Routine:
        """Returns when its process has ended, by itself or by force."""
        target = self._target(request)
        if self._first.state(target)["status"] == messages.STOPPED:
            return {}
        if self._pauses:  # just started it would not hear that it is asked to end
            yield from self._first.end(self.id)
            return {}
        kill = self._loop.after(request["timeout_secs"] or STOP_S, lambda: self._kill(target))
        try:
            yield from self._ask_to_end(target)
            yield from self._first.wait(target)
        finally:
            kill.cancel()
        return {}

    def _ask_to_end(self, target: Values) -> Routine:
        try:
            yield from self._first.kill({**target, "signal": SIGTERM, "all": False})
        except BarqueError:
            pass  # it ends just now; what does not is killed
        return None

    def _kill(self, target: Values) -> None:
        self._loop.spawn(self._first.end(target["id"]))

    def shutdown(self, request: Values) -> Routine:
        """Ends all; a shim whose sandbox could not be made, when it has no container."""
        if not self.id:
            return self._tasks.shutdown({})
        target = self._target(request)
        yield from self._tasks.remove_all()
        yield from self._first.remove(target["id"])
        self.id = ""
        self._loop.afterwards(self._shut_down)
        return {}

    # looking

    def wait(self, request: Values) -> Routine:
        return (yield from self._first.wait(self._target(request)))

    def status(self, request: Values) -> Values:
        target = self._target(request)
        state = self._first.state(target)
        running = state["status"] in (messages.RUNNING, messages.PAUSED)
        info = {"bundle": state["bundle"], "version": self._host.version}
        return {
            "sandbox_id": self.id,
            "pid": state["pid"],
            "state": READY if running else NOT_READY,
            "info": info if request["verbose"] else {},
            "created_at": messages.timestamp(self._created_ns),
            "exited_at": state["exited_at"],
        }

    def ping(self, request: Values) -> Values:
        self._target(request)
        return {}

    def platform(self, request: Values) -> Values:
        from barque.oci.image import host_platform  # rarely asked for

        self._target(request)
        found = host_platform(os.uname().machine)
        return {
            "platform": {
                "os": found.os,
                "architecture": found.architecture,
                "variant": found.variant,
            }
        }

    def metrics(self, request: Values) -> Values:
        stats = self._first.stats(self._target(request))["stats"]
        at = messages.timestamp(time.time_ns())
        return {"metrics": {"timestamp": at, "id": self.id, "data": stats}}

    def _target(self, request: Values) -> Values:
        """The sandbox's process as a request of the Task service names it. Raises NotFound."""
        identity = request["sandbox_id"]
        if not identity or identity != self.id:
            raise NotFound(f'sandbox "{identity}": not found')
        return {"id": identity, "exec_id": ""}
