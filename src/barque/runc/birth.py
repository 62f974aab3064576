"""A container's process on its way from clone3 until it waits for `start`: the runtime's side.

Who says what when is in `barque.runc.channel`. Each thing that is done is undone when a later one
fails; a step answers one message, so that a caller with a loop of its own need not wait in here.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, Forbidden
from barque.linux import namespaces as kinds
from barque.linux.fs import write_atomic, write_file
from barque.linux.process import set_dumpable
from barque.oci.document import dump
from barque.runc import channel, init, seccomp
from barque.runc.container import process_times
from barque.runc.hooks import run_hooks
from barque.runc.log import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.oci.runtime import IdMapping, Linux
    from barque.runc.container import Container
    from barque.runc.create import Options
    from barque.runc.init import Launch
    from barque.runc.undo import Undo

SIGCHLD = 17
SIGKILL = 9
START_FAILED = "unable to start container process: "
INIT_FAILED = "error during container init: "
NAMESPACE_FLAGS = {
    "pid": kinds.CLONE_NEWPID,
    "network": kinds.CLONE_NEWNET,
    "mount": kinds.CLONE_NEWNS,
    "ipc": kinds.CLONE_NEWIPC,
    "uts": kinds.CLONE_NEWUTS,
    "user": kinds.CLONE_NEWUSER,
    "cgroup": kinds.CLONE_NEWCGROUP,
    "time": kinds.CLONE_NEWTIME,
}


class Birth:
    """One process. Made: it runs, and nothing has been heard of it yet.

    `sibling`: its parent is the caller's, who is told of its end as of the caller's own.
    """

    __slots__ = ("_channel", "_container", "_launch", "_options")

    def __init__(
        self, container: Container, launch: Launch, options: Options, undo: Undo, *, sibling: bool
    ) -> None:
        self._container = container
        self._launch = launch
        self._options = options
        linux = launch.spec.linux
        launch.state = container.document("creating")
        launch.cgroup_directories = container.cgroup.directories
        # a user maps the ids of his own process only while it is dumpable; it ends that itself
        set_dumpable(launch.mapped and os.geteuid() != 0)
        self._channel, launch.channel = channel.pair()
        try:
            container.pid = self._clone(sibling)
        finally:
            launch.channel.close()
        undo.add(destroy_process, container.pid)
        container.start_time = process_times(container.pid) or 0
        if launch.user_namespace and os.geteuid() == 0:
            adjust_oom_score(container.pid, launch.process.oom_score_adj)
        if launch.mapped:
            admit(self._channel, container.pid, linux, launch.process.oom_score_adj)
        give_resources(container, linux, undo)

    def _clone(self, sibling: bool) -> int:
        launch, ours = self._launch, self._channel
        unified = self._container.cgroup.open_unified()
        if not launch.awaits_cgroups:
            launch.entries = self._container.cgroup.open_entries()
        flags = kinds.CLONE_PARENT if sibling else 0
        joined = {flag for _, flag in launch.joined}
        for kind in launch.spec.linux.namespaces:
            flag = NAMESPACE_FLAGS[kind]
            if kind != "cgroup" and is_new(launch.spec.linux, kind) and flag not in joined:
                flags |= flag
        try:
            pid = clone(launch, ours, flags, unified)
            if pid == 0:
                ours.close()  # else it would wait for ever for a runtime that was killed
                init.run(launch)
            return pid
        finally:
            if unified >= 0:
                os.close(unified)

    def let_in(self) -> None:
        """The cgroups that the process waits for are there. One that has failed says so itself."""
        entries = self._container.cgroup.open_entries()
        try:
            self._channel.give_entries(entries)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            for entry in entries:
                os.close(entry)

    def fileno(self) -> int:
        """Readable when there is a message."""
        return self._channel.fileno()

    def step(self) -> bool:
        """Wait for the next message and answer it. True: the process is ready, and told no more.

        Raises what it reports."""
        pid = self._container.pid
        if not answer(self._channel, pid, self._options, self._run_hooks, self._hand_on_listener):
            return False
        self._channel.close()
        return True

    def _run_hooks(self) -> None:
        hooks = self._launch.spec.hooks
        state = dump(self._container.document("creating"))
        run_hooks((*hooks.get("prestart", ()), *hooks.get("createRuntime", ())), state, os.environ)

    def _hand_on_listener(self, number: int) -> None:
        profile = self._launch.spec.linux.seccomp or {}
        state = self._container.document("creating")
        seccomp.hand_on_listener(profile, self._container.pid, number, state)


def is_new(linux: Linux, kind: str) -> bool:
    return kind in linux.namespaces and not linux.namespaces[kind].path


def give_resources(container: Container, linux: Linux, undo: Undo) -> None:
    """What the runtime gives to the new process that few containers ask for."""
    if linux.net_devices:
        from barque.runc import net_devices

        net_devices.move_all(linux.net_devices, container.pid, undo)
    if linux.rdt is not None:
        from barque.runc import rdt

        rdt.join(rdt.Group(linux.rdt, container.id), container.pid, container.id, undo)


def adjust_oom_score(pid: int, value: int | None) -> None:
    """From outside, for a process that is root of another user namespace; one that ended tells."""
    if value is None:
        return
    try:
        write_file(f"/proc/{pid}/oom_score_adj", str(value))
    except (FileNotFoundError, ProcessLookupError):
        return
    except OSError as error:
        raise Forbidden(f"oom_score_adj {value}: {reason(error)}") from error


def admit(ours: channel.Channel, pid: int, linux: Linux, oom_score: int | None) -> None:
    """Map the new process's ids and tell it; one that has failed has its own words."""
    try:
        if os.geteuid():
            from barque.runc import rootless

            rootless.adjust_oom_score(pid, oom_score)
            rootless.map_ids(pid, linux)
        else:
            map_ids(pid, linux)
        ours.send(channel.GO)
    except (ProcessLookupError, FileNotFoundError, BrokenPipeError):
        return


def clone(launch: Launch, ours: channel.Channel, flags: int, cgroup_fd: int) -> int:
    """clone3; a pid namespace to join is entered for the child only."""
    if intermediary_needed(launch.spec.linux):
        from barque.runc import intermediary

        return intermediary.clone(launch, ours, flags, cgroup_fd)
    namespace = next((fd for fd, kind in launch.joined if kind == kinds.CLONE_NEWPID), -1)
    if namespace < 0:
        return kinds.clone3(flags, exit_signal=exit_signal(flags), cgroup_fd=cgroup_fd)
    own = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kinds.setns(namespace, kinds.CLONE_NEWPID)
        pid = kinds.clone3(flags, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
        if pid:
            come_back(own, pid)
        return pid
    finally:
        os.close(own)


def exit_signal(flags: int) -> int:
    """A sibling's is the caller's own. clone(2)."""
    return 0 if flags & kinds.CLONE_PARENT else SIGCHLD


def intermediary_needed(linux: Linux) -> bool:
    """Whether one clone3 is not enough: see barque.runc.intermediary."""
    namespaces = linux.namespaces
    joined = [kind for kind, namespace in namespaces.items() if namespace.path]
    return is_new(linux, "time") or "user" in joined or ("user" in namespaces and bool(joined))


def map_ids(pid: int, linux: Linux) -> None:
    """The ids of a new user namespace. user_namespaces(7)."""
    for name, mappings in (("uid_map", linux.uid_mappings), ("gid_map", linux.gid_mappings)):
        if mappings:
            write_file(f"/proc/{pid}/{name}", id_map(mappings))


def id_map(mappings: tuple[IdMapping, ...]) -> str:
    return "".join(f"{one.container_id} {one.host_id} {one.size}\n" for one in mappings)


def come_back(own: int, pid: int) -> None:
    """Leave the pid namespace that was entered for the new process `pid` only."""
    try:
        kinds.setns(own, kinds.CLONE_NEWPID)
    except OSError:
        destroy_process(pid)
        raise


def destroy_process(pid: int) -> None:
    """Kill a process of ours that did not become a container's, and reap it."""
    try:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def converse(
    ours: channel.Channel,
    pid: int,
    options: Options,
    mounted: Callable[[], None] | None = None,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Answer the new process until it is ready; raise what it reports."""
    while not answer(ours, pid, options, mounted, listening):
        pass


def answer(
    ours: channel.Channel,
    pid: int,
    options: Options,
    mounted: Callable[[], None] | None,
    listening: Callable[[int], None] | None,
) -> bool:
    """Answer the next message of the new process; True: it is ready. Raises what it reports.

    `mounted` runs hooks, `listening` hands the seccomp listener (by its number there) on.
    """
    kind, text, fd = ours.receive()
    if kind == channel.READY:
        return True
    if kind == channel.CONSOLE:
        hand_over_terminal(options, text, fd)
    elif kind == channel.MOUNTED and mounted is not None:
        mounted()
        ours.send(channel.GO)
    elif kind == channel.LISTENER and listening is not None:
        listening(int(text))
        ours.send(channel.GO)
    elif kind == channel.NOT_EXECUTABLE:
        raise BarqueError(START_FAILED + text)
    elif kind == channel.FAILED:
        raise BarqueError(START_FAILED + INIT_FAILED + text)
    else:
        raise BarqueError(f"{START_FAILED}{INIT_FAILED}it was {how_it_ended(pid)}")
    return False


def how_it_ended(pid: int) -> str:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"killed by signal {-status}" if status < 0 else f"ended with exit code {status}"


def hand_over_terminal(options: Options, name: str, master: int) -> None:
    if options.terminal_taker is not None:
        options.terminal_taker.append(master)
        return
    try:
        channel.send_descriptor(options.console_socket, name, master)
    finally:
        os.close(master)


def tell_pid(options: Options, pid: int) -> None:
    """Say which process it is, in the ways the command line asks for."""
    if options.pidfd_socket:
        pidfd = os.pidfd_open(pid)
        try:
            channel.send_descriptor(options.pidfd_socket, "pidfd", pidfd)
        finally:
            os.close(pidfd)
    if options.pid_file:
        write_pid_file(options.pid_file, pid)


def write_pid_file(path: str, pid: int) -> None:
    """The number alone, whole: containerd reads it as soon as the command has ended."""
    write_atomic(path, str(pid).encode(), 0o644)
