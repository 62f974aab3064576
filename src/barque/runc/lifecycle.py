"""start, kill, pause, resume, delete of a container. runtime.md, "Operations"."""

from __future__ import annotations

import errno
import os
import select

from barque.errors import Conflict, InvalidArgument, Unsupported
from barque.linux.process import pidfd_send_signal
from barque.oci.document import dump, parse
from barque.oci.runtime import parse_spec
from barque.runc.container import (
    CREATED,
    PAUSED,
    RUNNING,
    STOPPED,
    Container,
    process_times,
    reload,
    unlock,
)
from barque.runc.hooks import run_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Hook
    from barque.runc.log import Log
    from barque.runc.notify import Proxy

RESCTRL_INFO = "/sys/fs/resctrl/info"  # there when resctrl is mounted
SIGKILL = 9
NO_CGROUP = "the container has no cgroup: its user was given none"
LARGEST_SIGNAL = 64
DEATH_PATIENCE_MS = 10_000  # a killed process in an uninterruptible call takes its time
SIGNALS = {
    name: number
    for number, name in enumerate(
        (
            *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV"),
            *("USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN"),
            *("TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"),
        ),
        start=1,
    )
}
SIGNALS.update({"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31, "RTMIN": 34, "RTMAX": 64})


def parse_signal(text: str) -> int:
    """A number, or a name with or without SIG."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        number = int(text)
        if number <= LARGEST_SIGNAL:
            return number
    number = SIGNALS.get(text.upper().removeprefix("SIG"), -1)
    if number < 0:
        raise InvalidArgument(f'unknown signal "{text}"')
    return number


def start(container: Container, log: Log) -> None:
    """Let the waiting process execute the user's program. Allowed in: created."""
    lock = container.lock()
    try:
        if container.pid == 0:  # `create` has ended while this waited for it
            container = reload(container)
        status = container.status()
        if status == STOPPED:
            raise Conflict("cannot start a container that has stopped")
        if status == RUNNING:
            raise Conflict("cannot start an already running container")
        if status != CREATED:
            raise Conflict(f"cannot start a container in the {status} state")
        proxy = _notify_proxy(container)
        hooks = hooks_of(container, "poststart")
        release(container, until_executed=bool(hooks))
    finally:
        unlock(lock)
    _run_late_hooks(container, hooks, "poststart", RUNNING, log)
    if proxy is not None:
        try:
            proxy.relay()
        finally:
            proxy.close()


def _notify_proxy(container: Container) -> Proxy | None:
    """The container's socket for sd_notify, when the service manager wants to know."""
    manager = os.environ.get("NOTIFY_SOCKET", "")
    if not manager or not os.path.isdir(container.paths.notify(container.id)):
        return None
    from barque.runc.notify import Proxy

    return Proxy(container, manager)


def release(container: Container, *, until_executed: bool) -> None:
    """Tell the waiting process to go on. Who calls holds the lock, and the status is created."""
    path = container.paths.fifo(container.id)
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody waits
            raise Conflict("cannot start a container that has stopped") from None
        raise
    try:
        os.write(fifo, b"s")
        try:
            os.unlink(path)
        except OSError:  # it runs, whatever fails from now on; a fifo that nobody reads says so too
            pass
        if until_executed:  # the fifo has no reader from then on: POLLERR, which nobody asks for
            poller = select.poll()
            poller.register(fifo, 0)
            poller.poll()
    finally:
        os.close(fifo)


def kill(container: Container, signal: int, *, every: bool) -> None:
    """Send `signal` to the first process, or (`every`) to all. Allowed in: all but stopped."""
    if every:
        _kill_every(container, signal)
        return
    pidfd = open_init(container)
    if pidfd < 0:
        raise Conflict("container not running")
    try:
        pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    finally:
        os.close(pidfd)
    if signal == SIGKILL and container.cgroup.frozen():
        container.cgroup.thaw()  # what is frozen does not die


def _kill_without_cgroup(container: Container, signal: int) -> None:
    """All of a container whose user was given no cgroup: they end with the first of their pid
    namespace."""
    if "pid" not in container.namespaces or (signal != SIGKILL and container.alive()):
        raise Unsupported(NO_CGROUP)
    if container.alive():
        kill(container, signal, every=False)


def _kill_every(container: Container, signal: int) -> None:
    if not container.cgroup.directories:
        _kill_without_cgroup(container, signal)
        return
    if signal == SIGKILL:
        container.cgroup.kill()
        return
    for pid in container.cgroup.pids():
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            continue


def open_init(container: Container) -> int:
    """A pidfd of the first process, which is that process and no later one of its number; or -1."""
    try:
        pidfd = os.pidfd_open(container.pid)
    except (ProcessLookupError, OSError):
        return -1
    if process_times(container.pid) != container.start_time:
        os.close(pidfd)
        return -1
    return pidfd


def pause(container: Container) -> None:
    """Allowed in: created, running."""
    if container.status() not in (RUNNING, CREATED):
        raise Conflict("container not running")
    if not container.cgroup.directories:
        raise Unsupported(NO_CGROUP)
    container.cgroup.freeze()


def resume(container: Container) -> None:
    """Allowed in: paused."""
    if container.status() != PAUSED:
        raise Conflict("container not paused")
    container.cgroup.thaw()


def delete(container: Container, *, force: bool, log: Log) -> None:
    """Remove all that `create` made. Allowed in: stopped, created; with `force` in all.

    May be run twice, and again after it was interrupted.
    """
    lock = container.lock()
    try:
        container = reload(container)  # `create` may have ended while this waited for it
        status = container.status()
        if status not in (STOPPED, CREATED) and not force:
            text = f"cannot delete container {container.id} that is not stopped: {status}"
            raise Conflict(text)
        if status != STOPPED:
            _kill_and_wait(container)
        remove_cgroup(container)
        remove_rdt_groups(container)
        _run_late_hooks(container, hooks_of(container, "poststop"), "poststop", STOPPED, log)
        container.forget()
    finally:
        unlock(lock)


def remove_cgroup(container: Container) -> None:
    """Of processes that shared a pid namespace some may live on: they end here."""
    if "pid" not in container.namespaces or container.cgroup.pids():
        container.cgroup.kill()
    if container.unit:
        from barque.runc import systemd

        systemd.forget(container.unit)
    container.cgroup.remove()


def remove_rdt_groups(container: Container) -> None:
    """The groups of resctrl that `create` made for this container alone."""
    if not may_have_rdt_groups(container):
        return
    from barque.runc import rdt

    fields = parse_spec(parse(_config(container))).linux.rdt
    if fields is not None:
        rdt.leave(rdt.Group(fields, container.id), container.id)


def may_have_rdt_groups(container: Container) -> bool:
    return os.path.isdir(RESCTRL_INFO) and b'"intelRdt"' in _config(container)


def _kill_and_wait(container: Container) -> None:
    pidfd = open_init(container)
    if pidfd < 0:
        return
    try:
        kill(container, SIGKILL, every=False)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(DEATH_PATIENCE_MS):
            raise Conflict("container init still running")
    except Conflict:
        if container.alive():
            raise
    finally:
        os.close(pidfd)


def _run_late_hooks(
    container: Container, hooks: tuple[Hook, ...], point: str, status: str, log: Log
) -> None:
    """Hooks whose failure changes nothing: runtime.md makes them warnings."""
    if not hooks:
        return
    state = dump(container.document(status))
    for hook in hooks:
        try:
            run_hooks((hook,), state, os.environ)
        except Exception as error:
            log.warning(f"{point}: {error}")


def _config(container: Container) -> bytes:
    try:
        with open(container.paths.config(container.id), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def hooks_of(container: Container, point: str) -> tuple[Hook, ...]:
    """The hooks of the config that the container was made with."""
    raw = _config(container)
    if b'"hooks"' not in raw:
        return ()
    return parse_spec(parse(raw)).hooks.get(point, ())
