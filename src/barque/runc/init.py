"""The process that becomes a container's first: from clone3 to execve, one straight list.

It runs in the child of `barque.runc.create`, shares nothing with the caller but the `Launch` it was
forked with, and reports over the channel (see `barque.runc.channel` for who says what when).
The order is the kernel's: identity last, as each step before needs root's capabilities; seccomp
after all set-up calls, before capabilities go when only they allow it; no directory of the host
is open when the working directory is entered.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from barque.errors import BarqueError, Forbidden, InvalidArgument
from barque.linux import seccomp
from barque.linux.cgroup import SELF
from barque.linux.fs import open_beneath, write_all
from barque.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWPID, setns, unshare
from barque.linux.process import (
    join_session_keyring,
    kernel_getcwd,
    place_stdio,
    set_domainname,
    set_dumpable,
    set_hostname,
    set_name,
    set_no_new_privs,
    set_personality,
)
from barque.linux.seccomp import SECCOMP_FILTER_FLAG_NEW_LISTENER
from barque.oci.document import dump
from barque.runc import channel, console, devices, isolation, rootfs
from barque.runc.channel import Channel
from barque.runc.hooks import run_hooks
from barque.runc.identity import Identity, home_of
from barque.runc.log import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from barque.oci.runtime import Device, Process, Spec
    from barque.runc.rootfs import Rootfs
    from barque.runc.scheduling import Affinity

PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
EXEC_FAILED = 255


class NotExecutable(BarqueError):
    """The program is not there or may not be executed: 127 or 126 to who asked."""


class Launch:
    """All that the new process needs, checked and opened before it exists."""

    __slots__ = (
        "affinity",
        "apparmor",
        "awaits_cgroups",
        "bundle",
        "cgroup_directories",
        "channel",
        "container",
        "entries",
        "fifo",
        "filter",
        "filter_flags",
        "identity",
        "joined",
        "joined_user",
        "keyring",
        "label",
        "mapped",
        "nodes",
        "pivot",
        "preserved",
        "proc",
        "process",
        "root",
        "rootfs",
        "scheduling",
        "sources",
        "spec",
        "state",
        "streams",
        "unprivileged",
        "unshared_cgroup",
        "user_namespace",
    )
    container: str
    affinity: Affinity | None  # CPUs of an exec
    awaits_cgroups: bool  # its entries come by the channel: they are made beside its own steps
    apparmor: str  # profile to change to at execve; empty: none
    label: str  # of SELinux, that it gets at execve; empty: the caller's
    bundle: str
    rootfs: str
    spec: Spec
    process: Process
    identity: Identity
    channel: Channel
    fifo: int  # read end of the fifo that `start` writes to; -1: execute at once
    proc: int  # the host's /proc, verified
    filter: bytes  # compiled seccomp program, or empty
    filter_flags: int
    entries: list[int]  # of the cgroups, see Cgroup.open_entries
    joined: list[tuple[int, int]]  # descriptors of namespaces to join, with their CLONE_NEW*
    joined_user: int  # that of a user namespace to join, or -1
    scheduling: tuple[Callable[[], None], ...]  # see barque.runc.scheduling
    sources: dict[int, int]  # see barque.runc.sources
    unprivileged: bool  # the runtime is not root: see barque.runc.rootless
    unshared_cgroup: bool
    user_namespace: bool  # it is not in the runtime's own
    mapped: bool  # its user namespace is new: wait until the ids are mapped
    cgroup_directories: dict[str, str]
    nodes: tuple[Device, ...]
    pivot: bool  # the root is changed by pivot_root, not by moving a mount over it
    root: int  # of an exec where the container has no mount namespace: its root, else -1
    preserved: int  # descriptors from 3 on that go to the program
    keyring: str  # name of the container's session keyring; empty: keep the caller's
    state: dict[str, Any]  # for hooks: runtime.md, "State"
    streams: tuple[int, int, int] | None  # of one whose maker lives on: its 0, 1 and 2


def run(launch: Launch) -> NoReturn:
    """Become the container's process, or report why not and leave."""
    try:
        if launch.streams is not None:
            leave_maker(launch, launch.streams)
        program, arguments, environment = set_up(launch)
    except BaseException as error:
        report(launch.channel, error)
        os._exit(1)
    execute(program, arguments, environment)


def leave_maker(launch: Launch, streams: tuple[int, int, int]) -> None:
    """Let go of what belongs to the process that made this one and does more than that."""
    isolation.ignore_wakeup()
    place_stdio(streams)
    joined = (fd for fd, _ in launch.joined)
    needed = (launch.channel.fileno(), launch.fifo, launch.proc, *launch.entries, *joined)
    isolation.close_all_but({*needed, *launch.sources.values()})


def report(to: Channel, error: BaseException) -> None:
    kind = channel.NOT_EXECUTABLE if isinstance(error, NotExecutable) else channel.FAILED
    if isinstance(error, OSError):
        text = reason(error)
    elif isinstance(error, BarqueError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    try:
        to.send(kind, text)
    except OSError:  # it is gone, or has been told that all is ready
        write_all(2, f"{text}\n".encode(errors="replace"))


def set_up(launch: Launch) -> tuple[str, list[str], dict[str, str]]:
    """Everything before execve; returns its arguments."""
    isolation.forbid_imports()
    set_name("barque-runc:init")
    enter_cgroups(launch.entries)
    os.umask(0)
    os.setsid()
    if launch.mapped:
        launch.channel.expect_go()
        set_dumpable(False)
    if launch.user_namespace:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if launch.keyring:
        take_label(launch.proc, "keycreate", launch.label)
        join_keyring(launch.keyring)
    for fd, kind in launch.joined:
        if kind != CLONE_NEWPID:  # born in it
            setns(fd, kind)
    if launch.unshared_cgroup:
        join_cgroups(launch)
        unshare(CLONE_NEWCGROUP)
    tree = build_tree(launch)
    home = home_of(tree.fd, launch.process.uid)
    if "mount" in launch.spec.linux.namespaces:
        tree.enter(by_pivot=launch.pivot)
        rootfs.propagate(launch.spec.linux.rootfs_propagation)
    else:
        rootfs.change_root(tree.fd)
    set_names(launch.spec)
    write_sysctls(launch.proc, launch.spec.linux.sysctl)
    if not launch.unprivileged and not launch.user_namespace:  # of which /proc is not its own
        adjust_oom_score(launch.proc, launch.process)
    if launch.spec.linux.personality:
        set_personality(PERSONALITIES[launch.spec.linux.personality])
    for step in launch.scheduling:
        step()
    confine(launch.proc, launch.apparmor)
    take_label(launch.proc, "exec", launch.label)
    environment = environment_of(launch.process, home)
    program = become_user(launch, environment)
    run_inner_hooks(launch, "startContainer", "created", environment)
    return program, list(launch.process.args), environment


def build_tree(launch: Launch) -> Rootfs:
    """The file tree, complete but for being the root."""
    spec = launch.spec
    label = spec.linux.mount_label
    if "mount" in spec.linux.namespaces:
        propagation = spec.linux.rootfs_propagation
        tree = rootfs.prepare(launch.rootfs, launch.bundle, propagation, label)
    else:
        tree = rootfs.detached(launch.rootfs, launch.bundle, label)
    for index, mount in enumerate(spec.mounts):
        if mount.type == "cgroup":
            join_cgroups(launch)
            tree.mount_cgroups(mount, launch.cgroup_directories)
        else:
            tree.mount(mount, launch.sources.get(index, -1))
    if devices.wanted(spec.mounts):
        devices.make_nodes(tree, launch.nodes, by_bind=launch.user_namespace)
        devices.make_links(tree)
    if launch.process.terminal:
        take_terminal(launch, tree)
    else:
        devices.reopen_null(tree)
    join_cgroups(launch)
    run_outer_hooks(launch, tree)
    tree.make_directory(launch.process.cwd)
    tree.finish()
    if spec.root_readonly:
        tree.make_root_read_only()
    for path in spec.linux.readonly_paths:
        tree.read_only(path)
    for path in spec.linux.masked_paths:
        tree.mask(path)
    return tree


def join_cgroups(launch: Launch) -> None:
    """Enter the cgroups that were not there yet, before anything can tell the difference."""
    if launch.awaits_cgroups:
        launch.awaits_cgroups = False
        enter_cgroups(launch.channel.take_entries())


def enter_cgroups(entries: list[int]) -> None:
    """Move into the cgroups of version 1. The only thread moves itself: the kernel then waits for
    no grace period, which would take longer than all mounts together."""
    try:
        for entry in entries:
            os.write(entry, SELF)
            os.close(entry)
    except OSError as error:
        raise BarqueError(f"adding the process to its cgroups: {reason(error)}") from error


def run_outer_hooks(launch: Launch, tree: Rootfs) -> None:
    hooks = launch.spec.hooks
    if "prestart" in hooks or "createRuntime" in hooks:
        launch.channel.send(channel.MOUNTED)
        launch.channel.expect_go()
    if "createContainer" in hooks:
        os.fchdir(tree.fd)  # what such a hook names is the container's
        home = home_of(tree.fd, launch.process.uid)
        environment = environment_of(launch.process, home)
        run_inner_hooks(launch, "createContainer", "creating", environment)


def run_inner_hooks(launch: Launch, point: str, status: str, environment: dict[str, str]) -> None:
    """Hooks that this process runs: they see the number that it has in its own namespace, and
    inherit what the container's program gets."""
    if hooks := launch.spec.hooks.get(point):
        state = dump({**launch.state, "status": status, "pid": os.getpid()})
        run_hooks(hooks, state, environment)


def take_terminal(launch: Launch, tree: Rootfs) -> None:
    """Make the terminal: /dev/console and stdio get it, the runtime gets its master."""
    master, terminal = console.open_terminal(tree.devpts, launch.process)
    if tree.devpts >= 0:
        devices.mount_console(tree, terminal)
    console.take(terminal)
    console.hand_over(launch.channel, master)


def set_names(spec: Spec) -> None:
    if spec.hostname:
        set_hostname(spec.hostname)
    if spec.domainname:
        set_domainname(spec.domainname)


def write_sysctls(proc: int, sysctls: dict[str, str]) -> None:
    """Each through the host's own procfs and below it: no link and no other mount on the way."""
    for name, value in sysctls.items():
        path = "sys/" + (name if "/" in name else name.replace(".", "/"))
        try:
            fd = open_beneath(proc, path, os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f"open /proc/{path}: {text}") from error


def adjust_oom_score(proc: int, process: Process) -> None:
    if process.oom_score_adj is None:
        return
    fd = open_own(proc, "oom_score_adj")
    try:
        os.write(fd, str(process.oom_score_adj).encode())
    except OSError as error:
        raise Forbidden(f"oom_score_adj {process.oom_score_adj}: {reason(error)}") from error
    finally:
        os.close(fd)


def confine(proc: int, profile: str) -> None:
    """Take the AppArmor profile at execve. The file is the kernel's own (CVE-2019-16884)."""
    if not profile:
        return
    try:
        fd = open_own(proc, "attr/apparmor/exec")
    except FileNotFoundError:
        fd = open_own(proc, "attr/exec")
    try:
        os.write(fd, f"exec {profile}".encode())
    except OSError as error:
        text = f"apparmor failed to apply profile {profile}: {reason(error)}"
        raise InvalidArgument(f"unable to apply apparmor profile: {text}") from error
    finally:
        os.close(fd)


def take_label(proc: int, name: str, label: str) -> None:
    """Name the SELinux label of what this process makes next: at `exec`, or by `keycreate`.

    As with `confine`, the file is the kernel's own (CVE-2019-16884).
    """
    if not label:
        return
    try:
        fd = open_own(proc, f"attr/{name}")
        try:
            os.write(fd, label.encode())
        finally:
            os.close(fd)
    except OSError as error:
        text = f"can't set process label: write /proc/thread-self/attr/{name}: {reason(error)}"
        raise InvalidArgument(text) from error


def open_own(proc: int, name: str) -> int:
    """A file of this process's own directory in the host's procfs, to write to.

    `self` is the one link: its text is read and must be this process's number there.
    """
    number = os.readlink("self", dir_fd=proc)
    if not number.isdecimal():
        raise Forbidden(f"/proc/self leads to {number!r}")
    return open_beneath(proc, f"{number}/{name}", os.O_WRONLY)


def join_keyring(name: str) -> None:
    try:
        join_session_keyring(name)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without keyrings has nothing to hide
            raise


def become_user(launch: Launch, environment: dict[str, str]) -> str:
    """Take the config's identity and wait for `start`; returns the path of the program."""
    process = launch.process
    early_filter = launch.filter and not process.no_new_privileges
    keep = {launch.channel.fileno(), *range(3, 3 + launch.preserved)}
    if launch.fifo >= 0:
        keep.add(launch.fifo)
    isolation.close_all_but(keep)
    isolation.close_at_exec(3 + launch.preserved)
    isolation.restore_signals()
    if launch.unprivileged and launch.fifo >= 0 and not launch.joined:
        # nothing of the host's is left and nobody is inside: the user may look, as he has to for
        # an exec before the start and to take the listener of a filter
        set_dumpable(True)
    launch.identity.set_limits()
    if process.no_new_privileges:
        set_no_new_privs()
    if early_filter:
        load_filter(launch)
    entered = enter_directory(process.cwd, again=False)
    launch.identity.become(in_user_namespace=launch.user_namespace)
    if not entered:
        enter_directory(process.cwd, again=True)
    verify_directory()
    os.umask(0o22 if process.umask is None else process.umask & 0o777)
    program = find_program(process.args[0], environment)
    isolation.inherit(3, launch.preserved)
    late_filter = launch.filter and not early_filter
    if late_filter and launch.filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        load_filter(launch)
        late_filter = b""
    launch.channel.send(channel.READY)
    launch.channel.close()
    if launch.fifo >= 0:
        wait_for_start(launch.fifo)
    if late_filter:
        load_filter(launch)
    return program


def load_filter(launch: Launch) -> None:
    """Install the seccomp filter; who decides on its calls has the listener when this returns."""
    listener = seccomp.load_filter(launch.filter, launch.filter_flags)
    if launch.filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        launch.channel.send_listener(listener)
        launch.channel.expect_go()
        os.close(listener)


def enter_directory(path: str, *, again: bool) -> bool:
    """chdir; False: root may not, the user may."""
    try:
        os.chdir(path)
    except PermissionError as error:
        if again:
            raise _cwd_failed(path, error) from error
        return False
    except OSError as error:
        raise _cwd_failed(path, error) from error
    return True


def _cwd_failed(path: str, error: OSError) -> InvalidArgument:
    text = os.strerror(error.errno or 0).lower()
    return InvalidArgument(f'chdir to cwd ("{path}") set in config.json failed: {text}')


def verify_directory() -> None:
    """A working directory that the kernel cannot name from the root is outside (CVE-2024-21626)."""
    if not kernel_getcwd().startswith(b"/"):
        raise Forbidden(
            "current working directory is outside of container mount namespace root "
            "-- possible container breakout detected"
        )


def environment_of(process: Process, home: str) -> dict[str, str]:
    """The process's environment; the last of several entries of one name counts."""
    environment: dict[str, str] = {}
    for entry in process.env:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"invalid environment variable: {entry!r}")
        environment[name] = value
    environment.setdefault("HOME", home)
    return environment


def find_program(name: str, environment: dict[str, str]) -> str:
    """The file execve gets, looked up as a shell does; NotExecutable in Go's words."""
    if "/" in name:
        refusal = refusal_of(name)
        if refusal:
            raise NotExecutable(f'exec: "{name}": {refusal}')
        return name
    if name:
        for directory in environment.get("PATH", "").split(":"):
            candidate = os.path.join(directory or ".", name)
            if not refusal_of(candidate):
                return candidate
    raise NotExecutable(f'exec: "{name}": executable file not found in $PATH')


def refusal_of(path: str) -> str:
    """Why this user may not execute `path`; empty: it may."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"stat {path}: {os.strerror(error.errno or 0).lower()}"
    if stat.S_ISDIR(found.st_mode) or not found.st_mode & 0o111:
        return "permission denied"
    if not os.access(path, os.X_OK, effective_ids=True):
        return "permission denied"
    return ""


def wait_for_start(fifo: int) -> None:
    """Block until `start` writes a byte."""
    poller = select.poll()
    poller.register(fifo, select.POLLIN)
    while not poller.poll():
        pass
    os.read(fifo, 1)
    # it stays open until execve closes it: that tells `start` of the moment


def execute(program: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """execve; what it refuses is said on the container's own standard error, as runc does."""
    try:
        os.execve(program, arguments, environment)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        text = f"exec {program}: {os.strerror(number or errno.EINVAL).lower()}\n"
        try:
            write_all(2, text.encode(errors="replace"))
        finally:
            os._exit(EXEC_FAILED)
