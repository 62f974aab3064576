"""One container: bundle, root filesystem, runtime, first process and execs."""

from __future__ import annotations

import os

from barque.errors import (
    AlreadyExists,
    BarqueError,
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from barque.linux.cgroup import UNIFIED, Cgroup, hierarchies, locate, own_paths
from barque.shim import paths, rootfs, wire
from barque.shim.console import ConsoleSocket
from barque.shim.messages import CREATED, LINUX_OPTIONS, RESTORE_OPTIONS, RUNC_OPTIONS, STOPPED
from barque.shim.metrics import measure
from barque.shim.oom import OomWatch, has_killed
from barque.shim.process import Process, is_first_of_namespace, read_pid, with_terminal
from barque.shim.runtime import Runtime
from barque.shim.stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Loop, Routine
    from barque.shim.runtime import Entry

    Values = dict[str, Any]

SIGKILL: Final = 9
KEPT: Final = (  # of the CreateTaskRequest
    "id",
    "bundle",
    "options",
    "checkpoint",
    "parent_checkpoint",
    "terminal",
    "stdin",
    "stdout",
    "stderr",
)
CHECKPOINT_FLAGS: Final = {
    "open_tcp": "--tcp-established",
    "external_unix_sockets": "--ext-unix-sk",
    "terminal": "--shell-job",
    "file_locks": "--file-locks",
}


class Host:
    """What a container needs from the shim around it."""

    def __init__(
        self,
        loop: Loop,
        address: str,
        namespace: str,
        version: str,
        entry: Entry | None,
        warn: Callable[[str], None],
        publish: Callable[[str, Values], None],
        move: Callable[[str], None],
    ) -> None:
        """`move`: have the shim live in another bundle, as its first one is going."""
        self.loop = loop
        self.pid = loop.ground.keeper or os.getpid()  # the shim's, as others know it
        self.publish = publish
        self.move = move
        self.address = address
        self.namespace = namespace
        self.version = version
        self.entry = entry
        self.warn = warn

    def silent(self) -> Host:
        """The same for a container that nobody is told of, and for which the shim does not move."""
        return Host(
            self.loop,
            self.address,
            self.namespace,
            self.version,
            self.entry,
            self.warn,
            publish=lambda topic, values: None,
            move=lambda bundle: None,
        )


class Container:
    """Everything of it; which calls its state allows is decided by `Tasks` and `Process`."""

    def __init__(self, host: Host, request: Values, saved: Values | None = None) -> None:
        """From a CreateTaskRequest; nothing is done yet. Raises InvalidArgument for its options.

        `saved`: as it was when `save` was called, by a worker that has left.
        """
        self._request = {name: request[name] for name in KEPT}
        self.id: str = request["id"]
        self.bundle: str = request["bundle"]
        self._host = host
        self._options = parse_options(request["options"])
        self.runtime = Runtime(
            host.loop,
            self.bundle,
            paths.runtime_root(host.address, host.namespace, self._options["root"]),
            self._options["binary_name"],
            self._options["systemd_cgroup"],
            host.entry,
            self._options["criu_path"],
        )
        self._rootfs = paths.bundle_file(self.bundle, paths.ROOTFS)
        self._lingers = rootfs.may_linger(request["rootfs"]) if saved is None else saved["lingers"]
        self._images: str = request["checkpoint"]  # of criu: what it is restored from
        if request["parent_checkpoint"]:
            raise Unsupported("restoring a task from a chain of checkpoints is not supported")
        self.init = self._process("", request, saved and saved["init"])
        self.execs: dict[str, Process] = {}
        self.shares_pids = False
        self.oom: OomWatch | None = None
        self._forgotten = False  # by the runtime
        self._cgroup: Cgroup | None = None
        self._cgroup_paths: dict[str, str] = {}
        if saved is not None:
            self._recall(saved)

    def _process(self, exec_id: str, io: Values, saved: Values | None = None) -> Process:
        stdio = self._stdio(io, bool(exec_id), saved and saved["stdio"])
        process = Process(self.id, exec_id, io, stdio)
        if saved is not None:
            process.restore(saved)
        return process

    def save(self) -> Values | None:
        """What to make it from again; None: not now."""
        execs = [(target.exec_id, target.io, target.save()) for target in self.execs.values()]
        init = self.init.save()
        if init is None or any(saved is None for _, _, saved in execs):
            return None
        return {
            "request": self._request,
            "init": init,
            "execs": execs,
            "shares_pids": self.shares_pids,
            "lingers": self._lingers,
            "forgotten": self._forgotten,
            "cgroup_paths": self._cgroup_paths,
            "oom": self.oom and self.oom.save(),
        }

    def _recall(self, saved: Values) -> None:
        self.shares_pids = saved["shares_pids"]
        self._forgotten = saved["forgotten"]
        self._cgroup_paths = saved["cgroup_paths"]
        for exec_id, io, process in saved["execs"]:
            self.execs[exec_id] = self._process(exec_id, io, process)
        if saved["oom"] is not None:
            loop = self._host.loop
            self.oom = OomWatch(loop, self.cgroup(), self._told_oom, saved["oom"])

    def _stdio(self, request: Values, late: bool, saved: Values | None) -> Stdio:
        return Stdio(
            self._host.loop,
            request["terminal"],
            request["stdin"],
            request["stdout"],
            request["stderr"],
            self._host.warn,
            owner=(self._options["io_uid"], self._options["io_gid"]),
            logger_env={
                "CONTAINER_ID": self.id,
                "CONTAINER_NAMESPACE": self._host.namespace,
            },
            late=late,
            saved=saved,
        )

    # life

    def create(self, request: Values) -> Routine:
        """Mount the root filesystem and have the runtime make the container. All or nothing."""
        init = self.init
        try:
            self._join_cgroup()
            yield from init.stdio.ready()
            self.runtime.save()
            os.makedirs(self.runtime.root, mode=0o700, exist_ok=True)
            rootfs.mount_all(request["rootfs"], self._rootfs)
            try:
                if not self._images:  # else Start restores it
                    flags = ["--no-new-keyring"] if self._options["no_new_keyring"] else []
                    yield from self._make("create", *flags)
            except BaseException:
                yield from self._take_back()
                raise
        except BaseException:
            init.stdio.close()
            raise
        return None

    def _make(self, verb: str, *flags: str) -> Routine:
        """Have the runtime make the first process: `create` or `restore`."""
        if self._options["no_pivot_root"]:
            flags = ("--no-pivot", *flags)
        pid_file = paths.bundle_file(self.bundle, paths.INIT_PID)
        argv = [verb, "--bundle", self.bundle, *flags]
        yield from self._run(self.init, verb, argv, pid_file, self.id)
        return None

    def _join_cgroup(self) -> None:
        """The task's options may name the cgroup that its shim is to be in: in the hierarchies
        that have it, as who makes one for version 1 may know of some of them only."""
        wanted = self._options["shim_cgroup"]
        if not wanted:
            return
        try:
            directories = locate(f"/{wanted.lstrip('/')}", self.id)
            there = {name: place for name, place in directories.items() if os.path.isdir(place)}
            group = Cgroup(there or directories)
            for pid in {os.getpid(), self._host.pid}:
                group.attach(pid)
        except OSError as error:
            raise BarqueError(f"shim cannot join cgroup {wanted}: {error.strerror}") from error

    def _take_back(self) -> Routine:
        """Create has failed; when that was after the runtime's part, that is undone as well."""
        if self.init.pid:
            try:
                yield from self.runtime.call("delete", "delete", "--force", self.id)
            except BarqueError as error:
                self._host.warn(f"{self.id} was not made, and something of it is left: {error}")
        rootfs.unmount(self._rootfs)
        return None

    def start(self, target: Process) -> Routine:
        if not target.exec_id and self._images:
            yield from self._restore()
            return None
        if not target.exec_id:
            yield from self.runtime.call("start", "start", self.id)
            return None
        process_file = paths.exec_process(self.bundle, target.exec_id)
        pid_file = paths.exec_pid(self.bundle, target.exec_id)
        argv = ["exec", "--process", process_file, "--detach"]
        yield from target.stdio.ready()
        yield from self._run(target, "exec", argv, pid_file, self.id)
        return None

    def _restore(self) -> Routine:
        flags = ["--image-path", self._images, "--detach", "--no-subreaper"]
        if self._options["criu_work_path"]:
            flags += ["--work-path", self._options["criu_work_path"]]
        yield from self._make("restore", *flags)
        return None

    def checkpoint(self, path: str, options: Values) -> Routine:
        """Save it below `path` by criu; it ends when the options say so."""
        work = options["work_path"] or paths.bundle_file(self.bundle, paths.CRIU_WORK)
        flags = ["--image-path", options["image_path"] or path, "--work-path", work]
        flags += [flag for name, flag in CHECKPOINT_FLAGS.items() if options[name]]
        if not options["exit"]:
            flags.append("--leave-running")
        if options["cgroups_mode"]:
            flags += ["--manage-cgroups-mode", options["cgroups_mode"]]
        for name in options["empty_namespaces"]:
            flags += ["--empty-ns", name]
        os.makedirs(work, mode=0o700, exist_ok=True)
        yield from self.runtime.call("checkpoint", "checkpoint", *flags, self.id)
        return None

    def _run(
        self, target: Process, what: str, argv: list[str], pid_file: str, identity: str
    ) -> Routine:
        """Call the runtime to make `target`'s process, with its streams or terminal."""
        console = None
        if target.stdio.terminal:
            directory = paths.sockets(self._host.address)
            console = ConsoleSocket(paths.socket(directory, ".pty"))
            argv = [*argv, "--console-socket", console.path]
        try:
            yield from self.runtime.call(
                what, *argv, "--pid-file", pid_file, identity, stdio=target.stdio.child
            )
            target.know(read_pid(pid_file))
            if console is not None:
                target.stdio.set_console(console.take())
            if not target.exec_id:  # before the next event, and once this is answered
                self._host.loop.afterwards(self._look_at_init)
        finally:
            target.stdio.release_child()
            if console is not None:
                console.close()
        return None

    def _look_at_init(self) -> None:
        """What has to be known of the first process while it waits to be started."""
        self.shares_pids = not is_first_of_namespace(self.init.pid)
        try:
            self._cgroup_paths = own_paths(self.init.pid)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has died already

    def run_out(self) -> None:
        """It has ended, and whoever waited knows. Their next call is mostly that it be deleted:
        what the runtime has of it, its cgroup with that, goes until then."""
        self._forgotten = self.runtime.forget(self.id)

    def delete(self) -> Routine:
        """Have the runtime forget it, and unmount. Twice is fine."""
        try:
            if not self._forgotten:
                yield from self.runtime.call("delete", "delete", self.id)
        except BarqueError as error:
            if "does not exist" not in str(error):
                raise
        held = rootfs.hold(self._rootfs) if self._lingers else -1
        rootfs.unmount(self._rootfs)
        if held >= 0:
            self._host.loop.afterwards(lambda: os.close(held))
        return None

    def close(self) -> None:
        """Let go of all streams."""
        if self.oom is not None:
            self.oom.close()
        for target in (self.init, *self.execs.values()):
            target.close()

    def kill_rest(self) -> Routine:
        """The first process is gone. Without a pid namespace of its own it leaves others behind."""
        if self.shares_pids:
            yield from self.runtime.call("kill", "kill", "--all", self.id, str(SIGKILL))
        return None

    def cgroup(self) -> Cgroup:
        """Where the first process was when it had been made: the dead are in no group of theirs.

        Hierarchies where it is at the root are left out: those groups are not the container's.
        """
        if self._cgroup is None:
            mounts = hierarchies()
            places = {
                name: self._cgroup_paths.get("" if name == UNIFIED else name, "/")
                for name in mounts
            }
            self._cgroup = Cgroup(
                {name: f"{mounts[name]}{path}" for name, path in places.items() if path != "/"}
            )
        return self._cgroup

    def watch_oom(self) -> None:
        """Publish when the container is out of memory, while it runs."""
        if self.init.reaped:
            return
        try:
            self.oom = OomWatch(self._host.loop, self.cgroup(), self._told_oom)
        except OSError as error:
            self._host.warn(f"out of memory events of {self.id} cannot be watched: {error}")

    def check_oom(self) -> None:
        """The first process has ended: its event may not have come, nor the watch have begun."""
        if self.oom is not None:
            self.oom.check()
            return
        try:
            if has_killed(self.cgroup()):
                self._told_oom()
        except OSError:
            pass  # no memory controller, or the group is gone

    def _told_oom(self) -> None:
        self._host.publish("/tasks/oom", {"container_id": self.id})

    # execs

    def add_exec(self, request: Values) -> None:
        exec_id = paths.check_id("exec id", request["exec_id"])
        if exec_id in self.execs or exec_id == self.id:
            raise AlreadyExists(f"id {exec_id}")
        if self.init.status == STOPPED:
            raise Conflict("cannot exec in a stopped state")
        if self.init.status == CREATED:
            raise Conflict("cannot exec in a created state")
        spec = request["spec"]
        if spec is None or not spec["value"]:
            raise InvalidArgument(f"exec {exec_id} has no process spec")
        described = with_terminal(spec["value"], request["terminal"])
        target = self._process(exec_id, request)
        try:
            write_private(paths.exec_process(self.bundle, exec_id), described)
        except OSError as error:
            target.close()
            raise BarqueError(f"exec {exec_id}: {error}") from error
        self.execs[exec_id] = target

    def delete_exec(self, target: Process) -> None:
        if target.pid and not target.ended.done:
            raise Conflict("cannot delete a running process")
        target.close()
        for name in (
            paths.exec_process(self.bundle, target.exec_id),
            paths.exec_pid(self.bundle, target.exec_id),
        ):
            if os.path.exists(name):
                os.unlink(name)
        self.execs.pop(target.exec_id, None)

    # all of it

    def signal(self, signal: int, everyone: bool) -> Routine:
        flags = ["--all"] if everyone else []
        yield from self.runtime.call("kill", "kill", *flags, self.id, str(signal))
        return None

    def update(self, request: Values) -> Routine:
        resources = request["resources"]
        if resources is None:
            raise InvalidArgument("update without resources")
        if self._forgotten:
            raise Conflict("OCI runtime update failed: container not running")
        name = paths.bundle_file(self.bundle, paths.RESOURCES)
        write_private(name, resources["value"])
        try:
            yield from self.runtime.call("update", "update", "--resources", name, self.id)
        finally:
            os.unlink(name)
        return None

    def pids(self) -> list[int]:
        if self.init.reaped or not self.init.pid:
            raise NotFound("process already finished")
        return self.cgroup().pids()

    def stats(self) -> Values:
        if not self.init.pid or self.init.reaped:
            raise NotFound(f"container {self.id} has no process: no metrics")
        return any_of(*measure(self.cgroup()))


def parse_options(options: Values | None, table: wire.Table = RUNC_OPTIONS) -> Values:
    """The runtime's options for a call. Raises InvalidArgument for a type that is not `table`'s."""
    if options is None or not options["type_url"]:
        return wire.decode(table, b"")
    name = options["type_url"].rpartition("/")[2]
    if name == LINUX_OPTIONS.name and table is RUNC_OPTIONS:
        known = wire.decode(LINUX_OPTIONS, options["value"])
        for option in RESTORE_OPTIONS:
            if known.pop(option):
                raise Unsupported(f"{option} in task options of type {name}")
        return {**wire.decode(table, b""), **known}
    if name != table.name:
        raise InvalidArgument(f"task options of type {name} are not supported")
    return wire.decode(table, options["value"])


def any_of(table: wire.Table, values: Values) -> Values:
    """A `google.protobuf.Any`, named as containerd names types."""
    return {"type_url": table.name, "value": wire.encode(table, values)}


def write_private(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
