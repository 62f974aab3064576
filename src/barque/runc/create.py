"""Make a container: everything up to its first process waiting at the fifo. runtime.md, "Create".

Undo is registered step by step; whatever fails, nothing is left of the container. When `create`
returns, the container's process is a child of the caller, and an orphan once the caller has left:
its subreaper inherits it. `barque.runc.birth` has the process's part.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound
from barque.linux import cgroup as control
from barque.linux import namespaces as kinds
from barque.linux.cgroup import UNIFIED, Cgroup
from barque.linux.fs import (
    NSFS_MAGIC,
    PROC_SUPER_MAGIC,
    filesystem_magic,
    read_bounded,
    remove_tree,
    write_atomic,
)
from barque.oci.document import parse
from barque.oci.runtime import parse_spec
from barque.runc import devices, init, resources, seccomp
from barque.runc.birth import (
    NAMESPACE_FLAGS,
    START_FAILED,
    Birth,
    intermediary_needed,
    is_new,
    tell_pid,
)
from barque.runc.container import Container, reserve, unlock
from barque.runc.identity import Identity
from barque.runc.log import reason
from barque.runc.undo import Undo
from barque.runc.validate import check_spec, has_apparmor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.oci.fields import Fields
    from barque.oci.runtime import Linux, Mount, Process, Spec
    from barque.runc.log import Log
    from barque.runc.paths import Paths

LONGEST_CONFIG = 1 << 24  # bytes
MOST_PRESERVED = 1024  # descriptors


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
    making = Making(paths, identifier, read_spec(options.bundle), options, log)
    while not making.step():
        pass
    return making.container


class Making:
    """A container that is being made: its process runs, and step after step tells of itself.

    Nothing is left of it when one fails. `host`: of the process that does this and lives on, else
    the process is this one's child and has its descriptors.
    """

    def __init__(
        self,
        paths: Paths,
        identifier: str,
        config: tuple[bytes, Spec],
        options: Options,
        log: Log,
        host: Host | None = None,
    ) -> None:
        spec = config[1]
        check(spec, options)
        with Undo() as undo:
            self.container, self._lock = new_container(
                paths, identifier, config, options.bundle, root_of(spec, options), undo
            )
            if os.environ.get("NOTIFY_SOCKET"):
                from barque.runc import notify

                notify.prepare(self.container, spec)
            self._options = options
            launch = prepare_launch(self.container, spec, options, log)
            launch.streams = None if host is None else host.streams
            self.new_network = wants_network(spec.linux)
            if host is not None and host.network >= 0 and self.new_network:
                launch.joined.append((os.dup(host.network), kinds.CLONE_NEWNET))
            sibling = host is not None and host.parent_reaps
            try:
                launch.awaits_cgroups = awaits_cgroups(self.container, launch)
                if not launch.awaits_cgroups:
                    self._inhabited = make_cgroup(self.container, spec, undo)
                else:
                    make_unified(self.container.cgroup, undo)
                self._birth = Birth(self.container, launch, options, undo, sibling=sibling)
                if launch.awaits_cgroups:
                    self._inhabited = make_cgroup(self.container, spec, undo, but=UNIFIED)
                    self._birth.let_in()
                if host is not None:
                    host.forked()
            except OSError as error:
                raise BarqueError(START_FAILED + reason(error)) from error
            finally:
                close_launch(launch)
            self._undo = undo.hand_on()

    def fileno(self) -> int:
        """Readable when a step has not to wait."""
        return self._birth.fileno()

    def step(self) -> bool:
        """Go on with the process's next message. True: the container is created."""
        with self._undo as undo:
            try:
                if not self._birth.step():
                    self._undo = undo.hand_on()
                    return False
                self.container.save()
                self._inhabited()
                tell_pid(self._options, self.container.pid)
            except OSError as error:
                raise BarqueError(START_FAILED + reason(error)) from error
            unlock(self._lock)
            undo.keep()
        return True

    def give_up(self) -> None:
        """Undo what was done, where nobody is there to make the steps."""
        with self._undo:
            pass


class Host:
    """A process that makes a container among other things, and lives on."""

    __slots__ = ("forked", "network", "parent_reaps", "streams")

    def __init__(
        self,
        streams: tuple[int, int, int],
        *,
        parent_reaps: bool,
        forked: Callable[[], None],
        network: int = -1,
    ) -> None:
        self.streams = streams  # descriptors that become the container's 0, 1 and 2
        self.parent_reaps = parent_reaps  # the container's process is to be its parent's child
        self.forked = forked  # called when the container's process is at work by itself
        self.network = network  # a new network namespace, or -1; it stays that process's


def check(spec: Spec, options: Options) -> None:
    """Raise what is wrong with the config or its options; what they add to it is added."""
    check_spec(spec)
    if os.geteuid():
        from barque.runc import rootless

        rootless.check_spec(spec)
    if options.listeners:
        told = (f"LISTEN_FDS={options.listeners}", "LISTEN_PID=1")
        spec.process.env = (*spec.process.env, *told)
    check_terminal(spec.process, options)


def root_of(spec: Spec, options: Options) -> str:
    """The root file system, which is there."""
    rootfs = os.path.normpath(os.path.join(options.bundle, spec.root_path))
    try:
        os.stat(rootfs)
    except OSError as error:
        raise InvalidArgument(f"invalid rootfs: {reason_of_stat(rootfs, error)}") from None
    return rootfs


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
    launch.label = spec.process.selinux_label
    launch.unprivileged = os.geteuid() != 0
    launch.unshared_cgroup = is_new(spec.linux, "cgroup")
    launch.user_namespace = "user" in spec.linux.namespaces
    launch.mapped = is_new(spec.linux, "user")
    launch.cgroup_directories = container.cgroup.directories
    launch.nodes = devices.planned(spec)
    launch.pivot = options.pivot
    launch.preserved = options.preserved
    container.keyring = options.keyring
    launch.keyring = container.session_keyring()
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


def wants_network(linux: Linux) -> bool:
    """Whether a network namespace is to be new, and may have been made before."""
    return is_new(linux, "network") and "user" not in linux.namespaces


def is_id_mapped(mount: Mount) -> bool:
    mapped = mount.uid_mappings or mount.gid_mappings
    return bool(mapped) or "idmap" in mount.options or "ridmap" in mount.options


def close_launch(launch: init.Launch) -> None:
    joined = (fd for fd, _ in launch.joined)
    for fd in (launch.fifo, launch.proc, *launch.entries, *launch.sources.values(), *joined):
        if fd >= 0:
            os.close(fd)


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


def awaits_cgroups(container: Container, launch: init.Launch) -> bool:
    """Whether the cgroups are made while the process sets itself up: those of version 1 are many,
    and it enters them itself. Not where others make them, or others make the process."""
    if container.unit or container.cgroup.unified_only or launch.unprivileged:
        return False
    return not (launch.user_namespace or intermediary_needed(launch.spec.linux))


def make_unified(group: Cgroup, undo: Undo) -> None:
    """The directory of version 2 beside those of version 1, where there is one: the process is
    born in it."""
    if UNIFIED in group.directories:
        group.create((UNIFIED,))
        undo.add(discard, Cgroup({UNIFIED: group.directories[UNIFIED]}))


def make_cgroup(container: Container, spec: Spec, undo: Undo, but: str = "") -> Callable[[], None]:
    """The cgroup with its limits, before anything of the container is in it; the directory in the
    hierarchy `but` is there already.

    Returns what is to be called once the container's process is in it.
    """
    group = container.cgroup
    writes = resources.plan(spec.linux.resources, unified=group.unified_only)
    rules = resources.device_rules(spec.linux.resources)
    if container.unit:
        from barque.runc import systemd

        done = systemd.make(container, spec, (writes, rules), undo)
        group.adopt()
    else:
        done = nothing_more
        try:
            group.create(name for name in group.directories if name != but)
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
