"""Run another process in a container that exists: `exec`. runtime.md names it not; runc's does so.

    caller           forks a child that is born in the container's pid namespace and cgroup
    child            joins the other namespaces of the container's first process, takes the
                     process's identity, executes

The container is hostile and sees the child before it has executed: it is not dumpable, so /proc
gives nothing of it away. Where the container's capabilities see through that, the child is born of
a process that has used and closed the runtime's descriptors outside: only the channel is open.
"""

from __future__ import annotations

import errno
import os

from barque.errors import BarqueError, Conflict, InvalidArgument
from barque.linux import namespaces as kinds
from barque.linux.cgroup import Cgroup
from barque.linux.fs import read_bounded
from barque.linux.process import set_dumpable, set_name, set_personality
from barque.oci.document import parse
from barque.oci.runtime import parse_spec
from barque.runc import channel, console, init, isolation, seccomp
from barque.runc.birth import (
    NAMESPACE_FLAGS,
    SIGCHLD,
    START_FAILED,
    come_back,
    converse,
    destroy_process,
    tell_pid,
)
from barque.runc.container import PAUSED, STOPPED, Container
from barque.runc.create import LONGEST_CONFIG, check_terminal, open_proc, scheduling_of
from barque.runc.identity import Identity, home_of
from barque.runc.lifecycle import open_init
from barque.runc.log import reason
from barque.runc.rootfs import change_root
from barque.runc.undo import Undo
from barque.runc.validate import check_process, has_apparmor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from barque.oci.runtime import Process, Spec
    from barque.runc.create import Options
    from barque.runc.log import Log
    from barque.runc.scheduling import Affinity


def container_spec(container: Container) -> Spec:
    """The config the container was made with."""
    raw = read_bounded(container.paths.config(container.id), LONGEST_CONFIG)
    try:
        return parse_spec(parse(raw))
    except ValueError as error:
        raise InvalidArgument(f"config of container {container.id}: {error}") from None


def enter(
    container: Container,
    process: Process,
    options: Options,
    log: Log,
    *,
    ignore_paused: bool = False,
) -> int:
    """Start `process` in the container; returns its pid once it is about to execute."""
    status = container.status()
    if status == STOPPED:
        raise Conflict("cannot exec in a stopped container")
    if status == PAUSED and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    check_process(process)
    check_terminal(process, options)
    with Undo() as undo:
        launch = prepare(container, process, options, log)
        try:
            pid = spawn(container, launch, options, undo)
            tell_pid(options, pid)
        except OSError as error:
            raise BarqueError(START_FAILED + reason(error)) from error
        finally:
            joined = (fd for fd, _ in launch.joined)
            for fd in (launch.proc, launch.root, *launch.entries, *joined):
                if fd >= 0:
                    os.close(fd)
        undo.keep()
    return pid


def prepare(container: Container, process: Process, options: Options, log: Log) -> init.Launch:
    """Check and open all that the new process needs."""
    spec = container_spec(container)
    launch = init.Launch()
    launch.container = container.id
    launch.spec = spec
    launch.process = process
    launch.identity = Identity(process, log)
    launch.fifo = -1
    profile = process.apparmor_profile or spec.process.apparmor_profile
    launch.apparmor = profile if has_apparmor() else ""
    launch.label = process.selinux_label or spec.process.selinux_label
    launch.awaits_cgroups = False
    launch.entries = []
    launch.preserved = options.preserved
    launch.affinity = affinity_of(process)
    launch.keyring = container.session_keyring()
    launch.unprivileged = os.geteuid() != 0
    launch.user_namespace = "user" in container.namespaces
    launch.scheduling = scheduling_of(process)
    launch.state = {}
    launch.filter, launch.filter_flags = b"", 0
    if spec.linux.seccomp is not None:
        key = container.filter_key
        launch.filter = seccomp.program(container.paths, spec.linux.seccomp, key)
        launch.filter_flags = seccomp.filter_flags(spec.linux.seccomp)
    pidfd = open_init(container)
    if pidfd < 0:
        raise Conflict("cannot exec in a stopped container")
    launch.joined = [(pidfd, namespace_flags(container))]
    launch.root = -1 if "mount" in container.namespaces else open_root(container)
    launch.proc = open_proc()
    return launch


def open_root(container: Container) -> int:
    """The root of the first process, for one that joins no mount namespace."""
    fd = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not container.alive():  # its number may be another's by now
        os.close(fd)
        raise Conflict("cannot exec in a stopped container")
    return fd


def affinity_of(process: Process) -> Affinity | None:
    if process.exec_affinity is None:
        return None
    from barque.runc.scheduling import Affinity

    return Affinity(process.exec_affinity)


def namespace_flags(container: Container) -> int:
    bits = 0
    for kind in container.namespaces:
        bits |= NAMESPACE_FLAGS[kind]
    return bits


def spawn(container: Container, launch: init.Launch, options: Options, undo: Undo) -> int:
    ours, launch.channel = channel.pair()
    set_dumpable(False)
    cgroup = Cgroup(options.cgroups) if options.cgroups else container.cgroup
    unified = cgroup.open_unified()
    launch.entries = cgroup.open_entries()
    try:
        try:
            pid = clone(container, launch, ours, unified)
        except OSError as error:
            if error.errno != errno.EBUSY or unified < 0:
                raise
            os.close(unified)
            unified = container.cgroup.open_unified_of(container.pid)
            pid = clone(container, launch, ours, unified)
        if pid == 0:
            ours.close()
            run(launch)
    finally:
        if unified >= 0:
            os.close(unified)
    undo.add(destroy_process, pid)
    launch.channel.close()

    def hand_on_listener(number: int) -> None:
        profile = launch.spec.linux.seccomp or {}
        seccomp.hand_on_listener(profile, pid, number, container.document(container.status()))

    converse(ours, pid, options, None, hand_on_listener)
    ours.close()
    return pid


def exposed(container: Container, spec: Spec) -> bool:
    """Whether processes of the container may look into the child although it is not dumpable:
    with CAP_SYS_PTRACE in the host's user namespace, and they see it (CVE-2016-9962)."""
    capabilities = spec.process.capabilities or {}
    return (
        "CAP_SYS_PTRACE" in capabilities.get("bounding", ())
        and "pid" in container.namespaces
        and "user" not in container.namespaces
    )


def clone(container: Container, launch: init.Launch, ours: channel.Channel, cgroup_fd: int) -> int:
    """Fork a child that is born in the container's pid namespace; the caller stays outside."""
    pidfd, flags = launch.joined[0]
    if exposed(container, launch.spec):
        from barque.runc import intermediary

        launch.joined = []
        return intermediary.clone_into(launch, ours, (pidfd, flags), cgroup_fd, prepare_outside)
    if not flags & kinds.CLONE_NEWPID:
        return kinds.clone3(0, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
    if launch.unprivileged and flags & kinds.CLONE_NEWUSER:
        from barque.runc import rootless

        return rootless.clone_into(launch, cgroup_fd)
    own = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kinds.setns(pidfd, kinds.CLONE_NEWPID)
        pid = kinds.clone3(0, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
        if pid:
            come_back(own, pid)
        return pid
    finally:
        os.close(own)


def join(pidfd: int, flags: int) -> None:
    """Enter the container's namespaces; those that the host owns need the host's privileges, so
    the user namespace is the last, unless it is what gives a user the right to enter the others."""
    try:
        kinds.setns(pidfd, flags & ~kinds.CLONE_NEWUSER)
    except PermissionError:
        kinds.setns(pidfd, flags)
        return
    if flags & kinds.CLONE_NEWUSER:
        kinds.setns(pidfd, kinds.CLONE_NEWUSER)


def run(launch: init.Launch) -> NoReturn:
    """Become the process, or report why not and leave."""
    try:
        program, arguments, environment = set_up(launch)
    except BaseException as error:
        init.report(launch.channel, error)
        os._exit(1)
    init.execute(program, arguments, environment)


def set_up(launch: init.Launch) -> tuple[str, list[str], dict[str, str]]:
    """Everything before execve; returns its arguments."""
    if launch.joined:  # else it comes from a process that has done so outside
        prepare_outside(launch)
        pidfd, flags = launch.joined[0]
        join(pidfd, flags & ~kinds.CLONE_NEWPID)
    os.umask(0)
    os.setsid()
    if launch.user_namespace:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if launch.keyring:
        init.join_keyring(launch.keyring)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    home = home_of(root, launch.process.uid)
    if launch.process.terminal:
        master, terminal = console.open_terminal(console.find_devpts(root), launch.process)
        console.take(terminal)
        console.hand_over(launch.channel, master)
    if launch.spec.linux.personality:
        set_personality(init.PERSONALITIES[launch.spec.linux.personality])
    for step in launch.scheduling:
        step()
    environment = init.environment_of(launch.process, home)
    program = init.become_user(launch, environment)
    return program, list(launch.process.args), environment


def prepare_outside(launch: init.Launch) -> None:
    """What needs descriptors of the host's, before any namespace of the container's is joined."""
    isolation.forbid_imports()
    set_name("barque-runc:init")
    if launch.affinity is not None:
        launch.affinity.begin()
    init.enter_cgroups(launch.entries)
    if launch.affinity is not None:
        launch.affinity.end()
    if not launch.unprivileged:
        init.adjust_oom_score(launch.proc, launch.process)
    init.confine(launch.proc, launch.apparmor)
    init.take_label(launch.proc, "exec", launch.label)
    init.take_label(launch.proc, "keycreate", launch.label)
    if launch.root >= 0:
        change_root(launch.root)
