"""Make a container: everything up to its first process waiting at the fifo. runtime.md, "Create".

Undo is registered step by step; whatever fails, nothing is left of the container. When `create`
returns, the container's process is a child of the caller, and an orphan once the caller has left:
its subreaper inherits it.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, Forbidden, InvalidArgument, NotFound
from barque.linux import cgroup as control
from barque.linux import namespaces as kinds
from barque.linux.cgroup import Cgroup
from barque.linux.fs import (
    NSFS_MAGIC,
    PROC_SUPER_MAGIC,
    filesystem_magic,
    read_bounded,
    remove_tree,
    write_atomic,
    write_file,
)
from barque.linux.process import set_dumpable
from barque.oci.document import dump, parse
from barque.oci.runtime import parse_spec
from barque.runc import channel, devices, init, resources, seccomp
from barque.runc.container import Container, process_times, reserve, unlock
from barque.runc.hooks import run_hooks
from barque.runc.identity import Identity
from barque.runc.log import reason
from barque.runc.undo import Undo
from barque.runc.validate import check_spec, has_apparmor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.oci.fields import Fields
    from barque.oci.runtime import IdMapping, Linux, Mount, Process, Spec
    from barque.runc.log import Log
    from barque.runc.paths import Paths

SIGCHLD = 17
SIGKILL = 9
START_FAILED = "unable to start container process: "
INIT_FAILED = "error during container init: "
LONGEST_CONFIG = 1 << 24  # bytes
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


class Options:
    """What the command line of create and run says."""

    __slots__ = (
        "bundle",
        "cgroups",
        "console_socket",
        "keyring",
        "listeners",
        "pid_file",
        "pidfd_socket",
        "pivot",
        "preserved",
        "terminal_taker",
    )

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.cgroups: dict[str, str] = {}  # of an exec, when not the container's own
        self.console_socket = ""
        self.pid_file = ""
        self.pidfd_socket = ""  # unix socket that gets a descriptor of the process
        self.pivot = True
        self.preserved = 0  # descriptors from 3 on that the process gets
        self.listeners = 0  # of these, how many are sockets that it is told about
        self.keyring = True
        self.terminal_taker: list[int] | None = None  # `run` keeps the terminal's master itself


def check_preserved(count: int) -> int:
    """`count`, when the caller has that many descriptors open from 3 on. It is asked before this
    process opens its own: one of those in their place would be in the container."""
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            where = f"/proc/self/fd/{fd}"
            raise InvalidArgument(
                f"unable to stat preserved-fd {fd - 3} (of {count}): "
                f"stat {where}: no such file or directory"
            ) from None
    return count


def check_terminal(process: Process, options: Options) -> None:
    """A terminal has somebody who takes its other end, and who wants one gets one."""
    if process.terminal and not options.console_socket and options.terminal_taker is None:
        raise InvalidArgument(
            "cannot allocate tty if runc will detach without setting console socket"
        )
    if options.console_socket and not process.terminal:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")


def read_spec(bundle: str) -> tuple[bytes, Spec]:
    """The bundle's config.json: its bytes, and as values."""
    path = f"{bundle}/config.json"
    try:
        raw = read_bounded(path, LONGEST_CONFIG)
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found") from None
    except IsADirectoryError:
        raise InvalidArgument(f"read {path}: is a directory") from None
    try:
        return raw, parse_spec(parse(raw))
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None


def new_container(
    paths: Paths, identifier: str, config: tuple[bytes, Spec], bundle: str, rootfs: str, undo: Undo
) -> tuple[Container, int]:
    """The record of a container, as yet without a process, and its lock, which is held."""
    raw, spec = config
    group, unit = locate_cgroup(paths, spec, identifier)
    undo.add(remove_tree, reserve(paths, identifier))
    container = Container(
        paths,
        identifier,
        bundle=bundle,
        rootfs=rootfs,
        annotations=spec.annotations,
        cgroup=group,
        namespaces=sorted(spec.linux.namespaces),
        unit=unit,
    )
    lock = container.lock()
    undo.add(unlock, lock)
    container.save()
    os.symlink(bundle, paths.bundle(identifier))
    write_atomic(paths.config(identifier), raw)
    return container, lock


def create(paths: Paths, identifier: str, options: Options, log: Log) -> Container:
    """Create the container `identifier`; its process runs and waits for `start`."""
    raw, spec = read_spec(options.bundle)
    check_spec(spec)
    if os.geteuid():
        from barque.runc import rootless

        rootless.check_spec(spec)
    if options.listeners:
        told = (f"LISTEN_FDS={options.listeners}", "LISTEN_PID=1")
        spec.process.env = (*spec.process.env, *told)
    check_terminal(spec.process, options)
    rootfs = os.path.normpath(os.path.join(options.bundle, spec.root_path))
    try:
        os.stat(rootfs)
    except OSError as error:
        raise InvalidArgument(f"invalid rootfs: {reason_of_stat(rootfs, error)}") from None
    with Undo() as undo:
        container, lock = new_container(
            paths, identifier, (raw, spec), options.bundle, rootfs, undo
        )
        if os.environ.get("NOTIFY_SOCKET"):
            from barque.runc import notify

            notify.prepare(container, spec)
        launch = prepare_launch(container, spec, options, log)
        try:
            inhabited = make_cgroup(container, spec, undo)
            spawn(container, launch, options, undo, log)
            inhabited()
            tell_pid(options, container.pid)
        except OSError as error:
            raise BarqueError(START_FAILED + reason(error)) from error
        finally:
            close_launch(launch)
        undo.keep()
        unlock(lock)
    return container


def reason_of_stat(path: str, error: OSError) -> str:
    return f"stat {path}: {os.strerror(error.errno or 0).lower()}"


def prepare_launch(container: Container, spec: Spec, options: Options, log: Log) -> init.Launch:
    """Check and open all that the new process needs."""
    launch = init.Launch()
    launch.container = container.id
    launch.bundle = options.bundle
    launch.rootfs = container.rootfs
    launch.spec = spec
    launch.process = spec.process
    launch.identity = Identity(spec.process, log)
    launch.fifo = launch.proc = -1
    launch.joined, launch.entries, launch.sources = [], [], {}
    launch.joined_user = -1
    launch.scheduling = scheduling_of(spec.process, spec.linux.memory_policy)
    launch.apparmor = spec.process.apparmor_profile if has_apparmor() else ""
    launch.unprivileged = os.geteuid() != 0
    launch.unshared_cgroup = is_new(spec.linux, "cgroup")
    launch.user_namespace = "user" in spec.linux.namespaces
    launch.mapped = is_new(spec.linux, "user")
    launch.cgroup_directories = container.cgroup.directories
    launch.nodes = devices.planned(spec)
    launch.pivot = options.pivot
    launch.preserved = options.preserved
    launch.keyring = f"_ses.{container.id}" if options.keyring else ""
    launch.state = {}
    launch.filter, launch.filter_flags = b"", 0
    if spec.linux.seccomp is not None:
        container.filter_key = seccomp.key_of(spec.linux.seccomp)
        launch.filter = seccomp.program(container.paths, spec.linux.seccomp, container.filter_key)
        launch.filter_flags = seccomp.filter_flags(spec.linux.seccomp)
    launch.proc = open_proc()
    launch.joined = open_namespaces(spec.linux)
    launch.joined_user = next((fd for fd, kind in launch.joined if kind == kinds.CLONE_NEWUSER), -1)
    launch.sources = open_sources(spec, options.bundle, launch.joined_user)
    fifo = container.paths.fifo(container.id)
    os.mkfifo(fifo, 0o622)
    # for writing too: a starter that is killed at once leaves no end of file behind
    launch.fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    return launch


def open_sources(spec: Spec, bundle: str, joined_user: int) -> dict[int, int]:
    """Sources of mounts that the container's process could not open itself."""
    namespaces = spec.linux.namespaces
    privileged = os.geteuid() == 0  # a user has the right to it in his namespaces alone
    own_paths = privileged and "user" in namespaces and is_new(spec.linux, "mount")
    if not (own_paths or any(map(is_id_mapped, spec.mounts))):
        return {}
    from barque.runc import sources

    return sources.open_all(spec, bundle, joined_user)


def is_id_mapped(mount: Mount) -> bool:
    mapped = mount.uid_mappings or mount.gid_mappings
    return bool(mapped) or "idmap" in mount.options or "ridmap" in mount.options


def close_launch(launch: init.Launch) -> None:
    joined = (fd for fd, _ in launch.joined)
    for fd in (launch.fifo, launch.proc, *launch.entries, *launch.sources.values(), *joined):
        if fd >= 0:
            os.close(fd)


def is_new(linux: Linux, kind: str) -> bool:
    return kind in linux.namespaces and not linux.namespaces[kind].path


def scheduling_of(
    process: Process, memory_policy: Fields | None = None
) -> tuple[Callable[[], None], ...]:
    """What the process does for its scheduling; the module is loaded by who asks for it."""
    if process.scheduler is process.io_priority is memory_policy is None:
        return ()
    from barque.runc import scheduling

    return scheduling.of_process(process, memory_policy)


def open_proc() -> int:
    """The host's procfs; only what is one is taken for it."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if filesystem_magic(proc) != PROC_SUPER_MAGIC:
        os.close(proc)
        raise BarqueError("/proc of the host is not a procfs")
    return proc


def open_namespaces(linux: Linux) -> list[tuple[int, int]]:
    """Descriptors of the namespaces to join."""
    opened = []
    for kind, namespace in linux.namespaces.items():
        if not namespace.path:
            continue
        try:
            fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(
                "unable to create new parent process: "
                f"namespace path: lstat {namespace.path}: {text}"
            ) from None
        if filesystem_magic(fd) != NSFS_MAGIC:
            os.close(fd)
            raise InvalidArgument(f"namespace path: {namespace.path} is not a namespace")
        opened.append((fd, NAMESPACE_FLAGS[kind]))
    return opened


def locate_cgroup(paths: Paths, spec: Spec, identifier: str) -> tuple[Cgroup, str]:
    """Where the container's cgroup will be, and systemd's unit for it, or none."""
    if not paths.systemd:
        return Cgroup(control.locate(spec.linux.cgroups_path, identifier)), ""
    from barque.runc import systemd

    directories, unit, _ = systemd.locate(spec.linux.cgroups_path, identifier)
    return Cgroup(directories), unit


def discard(group: Cgroup) -> None:
    """Remove a cgroup of ours with what may be in it: a process whose number nobody told us."""
    group.kill()
    group.remove()


def make_cgroup(container: Container, spec: Spec, undo: Undo) -> Callable[[], None]:
    """The cgroup with its limits, before anything of the container is in it.

    Returns what is to be called once the container's process is in it.
    """
    group = container.cgroup
    writes = resources.plan(spec.linux.resources, unified=group.unified_only)
    rules = resources.device_rules(spec.linux.resources)
    controllers = [*resources.controllers(writes), "cpu", "memory", "pids", "io", "cpuset"]
    if container.unit:
        from barque.runc import systemd

        done = systemd.make(container, spec, (writes, rules), undo)
        group.adopt(controllers)
    else:
        done = nothing_more
        try:
            group.create(controllers)
        except OSError as error:
            if not container.paths.rootless:
                raise
            from barque.runc import rootless

            rootless.without_cgroup(container, spec, writes, error)
            return done
        undo.add(discard, group)
    try:
        resources.apply(writes, group)
        try:
            resources.apply_devices(rules, group)
        except PermissionError:
            if not container.paths.rootless:  # who has no privileges makes no devices
                raise
    except BarqueError as error:
        raise type(error)(f"{START_FAILED}unable to apply cgroup configuration: {error}") from error
    return done


def nothing_more() -> None:
    """No one waits in the cgroup."""


def spawn(
    container: Container, launch: init.Launch, options: Options, undo: Undo, log: Log
) -> None:
    """Make the process and go with it through `barque.runc.channel`'s diagram."""
    linux = launch.spec.linux
    ours, theirs = channel.pair()
    launch.channel = theirs
    flags = 0
    for kind in linux.namespaces:
        if kind != "cgroup" and is_new(linux, kind):
            flags |= NAMESPACE_FLAGS[kind]
    launch.state = container.document("creating")
    launch.cgroup_directories = container.cgroup.directories
    # a user maps the ids of his own process only while it is dumpable; it ends that itself
    set_dumpable(launch.mapped and os.geteuid() != 0)
    unified = container.cgroup.open_unified()
    launch.entries = container.cgroup.open_entries()
    try:
        pid = clone(launch, ours, flags, unified)
        if pid == 0:
            ours.close()  # else it would wait for ever for a runtime that was killed
            init.run(launch)
    finally:
        if unified >= 0:
            os.close(unified)
    undo.add(destroy_process, pid)
    theirs.close()
    container.pid = pid
    container.start_time = process_times(pid) or 0
    if launch.user_namespace and os.geteuid() == 0:
        adjust_oom_score(pid, launch.process.oom_score_adj)
    if launch.mapped:
        admit(ours, pid, linux, launch.process.oom_score_adj)

    give_resources(container, linux, undo)

    def run_outer_hooks() -> None:
        hooks = launch.spec.hooks
        state = dump(container.document("creating"))
        run_hooks((*hooks.get("prestart", ()), *hooks.get("createRuntime", ())), state)

    def hand_on_listener(number: int) -> None:
        profile = launch.spec.linux.seccomp or {}
        seccomp.hand_on_listener(profile, pid, number, container.document("creating"))

    converse(ours, pid, options, run_outer_hooks, hand_on_listener)
    container.save()
    ours.close()


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


def clone(launch: init.Launch, ours: channel.Channel, flags: int, cgroup_fd: int) -> int:
    """clone3; a pid namespace to join is entered for the child only."""
    if intermediary_needed(launch.spec.linux):
        from barque.runc import intermediary

        return intermediary.clone(launch, ours, flags, cgroup_fd)
    namespace = next((fd for fd, kind in launch.joined if kind == kinds.CLONE_NEWPID), -1)
    if namespace < 0:
        return kinds.clone3(flags, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
    own = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kinds.setns(namespace, kinds.CLONE_NEWPID)
        pid = kinds.clone3(flags, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
        if pid:
            come_back(own, pid)
        return pid
    finally:
        os.close(own)


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
    """Answer the new process until it is ready; raise what it reports.

    `mounted` runs hooks, `listening` hands the seccomp listener (by its number there) on.
    """
    while True:
        kind, text, fd = ours.receive()
        if kind == channel.READY:
            return
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
