"""The Task service: containerd's calls, carried out on the containers of this shim.

Source: containerd's api/runtime/task/v2/shim.proto; the order and the wording of events and errors
are those of containerd's shim for runc, which clients match on.
"""

from __future__ import annotations

from barque.errors import AlreadyExists, BarqueError, Conflict, NotFound
from barque.shim import container as containers
from barque.shim import group, messages, paths, process, runtime
from barque.shim.container import Container
from barque.shim.loop import Deadline, Loop, Pending
from barque.shim.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Routine
    from barque.shim.server import Method

    Values = dict[str, Any]

EXPECTED_S: Final = 60.0  # from a join to its Create
SIGKILL: Final = 9


class Tasks:
    """The containers of one shim."""

    def __init__(self, loop: Loop, host: containers.Host, shutdown: Callable[[], None]) -> None:
        """`shutdown` is called when it was asked for and there is nothing left."""
        self._loop = loop
        self._host = host
        self._shutdown = shutdown
        self._containers: dict[str, Container] = {}
        self._expected: dict[str, Deadline] = {}  # that are to join the group
        self._told_to_end = False

    def methods(self) -> dict[tuple[str, str], Method]:
        """The service's table for `barque.shim.server`, under its two names."""
        by_name = {
            "State": self.state,
            "Create": self.create,
            "Start": self.start,
            "Delete": self.delete,
            "Pids": self.pids,
            "Pause": self.pause,
            "Resume": self.resume,
            "Checkpoint": self.checkpoint,
            "Kill": self.kill,
            "Exec": self.exec,
            "ResizePty": self.resize_pty,
            "CloseIO": self.close_io,
            "Update": self.update,
            "Wait": self.wait,
            "Stats": self.stats,
            "Connect": self.connect,
            "Shutdown": self.shutdown,
        }
        table: dict[tuple[str, str], Method] = {
            (service, name): (*messages.METHODS[name], method)
            for service in messages.TASK_SERVICES
            for name, method in by_name.items()
        }
        table[group.SERVICE, "Join"] = (group.JOIN_REQUEST, group.JOIN_RESPONSE, self.join)
        return table

    # from one worker to the next

    def save(self) -> list[Values] | None:
        """What `restore` wants; None: not now."""
        if self._told_to_end or self._expected:
            return None
        saved: list[Values] = []
        for container in self._containers.values():
            one = container.save()
            if one is None:
                return None
            saved.append(one)
        return saved

    def restore(self, saved: list[Values]) -> None:
        """The containers that another worker had."""
        for one in saved:
            container = Container(self._host, one["request"], one)
            self._containers[container.id] = container
            for target in (container.init, *container.execs.values()):
                if target.watched and not target.reaped:
                    self._watch(container, target)

    # finding

    @property
    def any_here(self) -> bool:
        """Whether there is a container, or is to be one."""
        return bool(self._containers or self._expected)

    def _container(self, request: Values) -> Container:
        found = self._containers.get(request["id"])
        if found is None:
            raise NotFound("container not created")
        return found

    def _process(self, request: Values) -> Process:
        container = self._container(request)
        if not request["exec_id"]:
            return container.init
        found = container.execs.get(request["exec_id"])
        if found is None:
            raise NotFound(f"process does not exist {request['exec_id']}")
        return found

    # a container's life

    def create(self, request: Values) -> Routine:
        identity = paths.check_id("container id", request["id"])
        if identity in self._containers:
            raise AlreadyExists(f"container {identity} already exists")
        container = Container(self._host, request)
        self._containers[identity] = container
        self._told_to_end = False
        if identity in self._expected:
            self._expected.pop(identity).cancel()
        self._loop.expect_pid()
        try:
            yield from container.create(request)
            self._announce_create(container, request)
            if container.init.pid:
                self._watch(container, container.init)
        except BaseException:
            del self._containers[identity]
            raise
        finally:
            self._loop.expect_no_more()
        return {"pid": container.init.pid}

    def _announce_create(self, container: Container, request: Values) -> None:
        init = container.init
        self._host.publish(
            "/tasks/create",
            {
                "container_id": container.id,
                "bundle": request["bundle"],
                "rootfs": request["rootfs"],
                "io": init.io,
                "pid": init.pid,
            },
        )

    def start(self, request: Values) -> Routine:
        container = self._container(request)
        target = self._process(request)
        yield target.turn.take()
        self._loop.expect_pid()
        try:
            self._process(request)  # it was not deleted while this waited
            target.check(process.START)
            target.starting = Pending()
            yield from container.start(target)
            target.advance(process.START)
            self._announce_start(target)
        finally:
            if target.exec_id and not target.pid:
                target.stdio.take_back()  # clients wait for its end before they say why
            if target.starting is not None:
                starting, target.starting = target.starting, None
                starting.set()
            if target.pid and not target.watched:
                self._watch(container, target)
            self._loop.expect_no_more()
            target.turn.give()
        return {"pid": target.pid}

    def _announce_start(self, target: Process) -> None:
        values: Values = {"container_id": target.container, "pid": target.pid}
        if target.exec_id:
            values["exec_id"] = target.exec_id
            self._host.publish("/tasks/exec-started", values)
        else:
            self._host.publish("/tasks/start", values)
            container = self._containers[target.container]
            self._loop.afterwards(container.watch_oom)

    def _watch(self, container: Container, target: Process) -> None:
        """Follow a process whose pid is known to its end."""
        target.watched = True

        def exited(status: int) -> None:
            target.note_exit(status)
            self._loop.spawn(self._finish(container, target))

        self._loop.on_exit(target.pid, exited)

    def _finish(self, container: Container, target: Process) -> Routine:
        """After `start` has been announced: the last of the output, then the exit."""
        if target.starting is not None:
            yield target.starting
        if not target.exec_id:
            try:
                yield from container.kill_rest()
            except (BarqueError, OSError) as error:
                self._host.warn(f"processes of {container.id} may be left: {error}")
        yield target.stdio.drain()
        target.advance(process.EXIT)
        if not target.exec_id:
            container.check_oom()
        self._host.publish(
            "/tasks/exit",
            {
                "container_id": target.container,
                "id": target.exec_id or target.container,
                "pid": target.pid,
                **target.exit_values(),
            },
        )
        target.ended.set()
        if not target.exec_id:
            self._loop.afterwards(container.run_out)
        return None

    def delete(self, request: Values) -> Routine:
        container = self._container(request)
        target = self._process(request)
        yield target.turn.take()
        try:
            if target.exec_id:
                container.delete_exec(target)
            else:
                yield from self._delete_container(container)
        finally:
            target.turn.give()
        return {"pid": target.pid, **target.exit_values()}

    def _delete_container(self, container: Container) -> Routine:
        init = container.init
        if init.status not in (messages.STOPPED, messages.CREATED):
            raise Conflict(f"cannot delete a {process.NAMES[init.status]} process")
        yield from container.delete()
        if init.pid and not init.ended.done:
            yield init.ended
        container.close()
        self._containers.pop(container.id, None)
        for other in self._containers.values():
            self._host.move(other.bundle)
            break
        self._host.publish(
            "/tasks/delete",
            {"container_id": container.id, "pid": init.pid, **init.exit_values()},
        )
        return None

    # all of it, for who ends the shim

    def end(self, identity: str) -> Routine:
        """Kill all processes of a container; returns when its exit has been told."""
        request: Values = {"id": identity, "exec_id": ""}
        init = self._container(request).init
        if init.status == messages.PAUSED:
            yield from self.resume(request)
        try:
            yield from self.kill({**request, "signal": SIGKILL, "all": True})
        except (NotFound, Conflict):
            pass  # it ends just now, or never had a process
        if init.pid and not init.ended.done:
            yield init.ended
        return None

    def remove(self, identity: str) -> Routine:
        """`end` a container and delete it."""
        yield from self.end(identity)
        yield from self.delete({"id": identity, "exec_id": ""})
        return None

    def remove_all(self) -> Routine:
        for identity in tuple(self._containers):
            yield from self.remove(identity)
        return None

    # what runs in it

    def exec(self, request: Values) -> Values:
        container = self._container(request)
        container.add_exec(request)
        self._host.publish(
            "/tasks/exec-added", {"container_id": container.id, "exec_id": request["exec_id"]}
        )
        return {}

    def kill(self, request: Values) -> Routine:
        container = self._container(request)
        target = self._process(request)
        signal = request["signal"]
        target.check_signal(signal)
        direct = not container.runtime.binary and container.init.status != messages.PAUSED
        if target.exec_id or (direct and not request["all"]):
            target.signal(signal)
            return {}
        try:
            yield from container.signal(signal, request["all"])
        except BarqueError as error:
            raise runtime.kill_error(error) from error
        return {}

    def pause(self, request: Values) -> Routine:
        return (yield from self._freeze(request, process.PAUSE, "/tasks/paused"))

    def resume(self, request: Values) -> Routine:
        return (yield from self._freeze(request, process.RESUME, "/tasks/resumed"))

    def _freeze(self, request: Values, verb: str, topic: str) -> Routine:
        container = self._container(request)
        init = container.init
        yield init.turn.take()
        try:
            init.check(verb)
            yield from container.runtime.call(verb, verb, container.id)
            if not init.reaped:
                init.advance(verb)
        finally:
            init.turn.give()
        self._host.publish(topic, {"container_id": container.id})
        return {}

    def checkpoint(self, request: Values) -> Routine:
        container = self._container(request)
        options = containers.parse_options(request["options"], messages.CHECKPOINT_OPTIONS)
        init = container.init
        yield init.turn.take()
        try:
            if init.status not in (messages.RUNNING, messages.PAUSED):
                raise Conflict(f"cannot checkpoint a {process.NAMES[init.status]} process")
            yield from container.checkpoint(request["path"], options)
        finally:
            init.turn.give()
        self._host.publish(
            "/tasks/checkpointed", {"container_id": container.id, "checkpoint": request["path"]}
        )
        return {}

    def update(self, request: Values) -> Routine:
        container = self._container(request)
        yield container.init.turn.take()
        try:
            yield from container.update(request)
        finally:
            container.init.turn.give()
        return {}

    def resize_pty(self, request: Values) -> Values:
        target = self._process(request)
        target.stdio.resize(request["width"], request["height"])
        return {}

    def close_io(self, request: Values) -> Values:
        target = self._process(request)
        if request["stdin"]:
            target.stdio.close_stdin()
        return {}

    # looking

    def state(self, request: Values) -> Values:
        container = self._container(request)
        target = self._process(request)
        return {
            "id": container.id,
            "bundle": container.bundle,
            "pid": target.pid,
            "status": target.status,
            **target.io,
            **target.exit_values(),
            "exec_id": target.exec_id,
        }

    def wait(self, request: Values) -> Routine:
        target = self._process(request)
        if not target.ended.done:
            yield target.ended
        return target.exit_values()

    def pids(self, request: Values) -> Values:
        container = self._container(request)
        by_pid = {target.pid: exec_id for exec_id, target in container.execs.items()}
        entries: list[Values] = []
        for pid in container.pids():
            entry: Values = {"pid": pid}
            if pid in by_pid:
                details = {"exec_id": by_pid[pid]}
                entry["info"] = containers.any_of(messages.PROCESS_DETAILS, details)
            entries.append(entry)
        return {"processes": entries}

    def stats(self, request: Values) -> Values:
        return {"stats": self._container(request).stats()}

    def connect(self, request: Values) -> Values:
        found = self._containers.get(request["id"])
        pid = found.init.pid if found is not None else 0
        return {"shim_pid": self._host.pid, "task_pid": pid, "version": self._host.version}

    def shutdown(self, request: Values) -> Values:
        """Ends the shim, when it has no container and expects none."""
        self._told_to_end = True
        self._loop.afterwards(self._end_if_told)
        return {}

    def _end_if_told(self) -> None:
        if self._told_to_end and not self.any_here:
            self._shutdown()

    def join(self, request: Values) -> Values:
        """Of the group's service: a container of this id will be created here."""
        identity = paths.check_id("container id", request["id"])

        def forget() -> None:
            del self._expected[identity]
            self._end_if_told()

        if identity in self._expected:
            self._expected.pop(identity).cancel()
        self._expected[identity] = self._loop.after(EXPECTED_S, forget)
        return {"pid": self._host.pid}
