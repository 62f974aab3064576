"""A process between the runtime and the container's first, for namespaces that clone3 cannot order.

    runtime        clone3
    intermediary   joins what is given by path with the host's privileges, the user namespace last;
                   makes the time namespace and sets its clocks, which a process born in one cannot;
                   clone3 with CLONE_PARENT: the container's process is the runtime's own child
    runtime        reads its number from a pipe (the channel may have its words already); reaps
                   the intermediary

A new user namespace owns what is made with it; a namespace of the host that is joined is entered
before, as root of the user namespace may not. user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument
from barque.linux import namespaces as kinds
from barque.linux.fs import write_all
from barque.runc import init, isolation
from barque.runc.log import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from barque.runc.channel import Channel
    from barque.runc.init import Launch

SIGCHLD = 17


def clone(launch: Launch, ours: Channel, flags: int, cgroup_fd: int) -> int:
    """The number of the container's process, which is a child of the caller; in it, 0."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = kinds.clone3(0, exit_signal=SIGCHLD)
    if pid == 0:
        ours.close()
        _stand_between(launch, writer, flags, cgroup_fd)
        return 0
    os.close(writer)
    return _born(launch, ours, pid, reader)


def clone_into(
    launch: Launch,
    ours: Channel,
    entered: tuple[int, int],
    cgroup_fd: int,
    prepare: Callable[[Launch], None],
) -> int:
    """The number of a process born in the namespaces `entered` (a pidfd, their CLONE_NEW*) with no
    descriptor of the runtime's but the channel; in it, 0. What needs others, `prepare`, is done
    before by the process between, whose cgroups and adjustments the new one inherits."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = kinds.clone3(0, exit_signal=SIGCHLD, cgroup_fd=cgroup_fd)
    if pid:
        os.close(writer)
        return _born(launch, ours, pid, reader)
    ours.close()
    try:
        prepare(launch)
        kinds.setns(*entered)
        keep = {launch.channel.fileno(), writer, *range(3, 3 + launch.preserved)}
        isolation.close_all_but(keep)
        pid = kinds.clone3(kinds.CLONE_PARENT, exit_signal=0)
    except BaseException as error:
        init.report(launch.channel, error)
        os._exit(1)
    if pid:
        _announce(writer, pid)
    os.close(writer)
    return 0


def _born(launch: Launch, ours: Channel, between: int, reader: int) -> int:
    try:
        number = os.read(reader, 32)
    finally:
        os.close(reader)
        os.waitpid(between, 0)
    if number:
        return int(number)
    launch.channel.close()  # or what was killed would be waited for for ever
    _, text, _ = ours.receive()
    reason = f"error during container init: {text}" if text else "its parent was killed"
    raise BarqueError(f"unable to start container process: {reason}")


def _stand_between(launch: Launch, writer: int, flags: int, cgroup_fd: int) -> None:
    """Returns in the container's process only."""
    try:
        isolation.forbid_imports()  # a mount namespace that it joins has files of others
        enter(launch.joined)
        launch.joined = []
        if flags & kinds.CLONE_NEWTIME:
            kinds.unshare(kinds.CLONE_NEWTIME)
            set_clocks(launch)
        enter_user_namespace(launch)
        flags = flags & ~kinds.CLONE_NEWTIME | kinds.CLONE_PARENT
        pid = kinds.clone3(flags, exit_signal=0, cgroup_fd=cgroup_fd)
    except BaseException as error:
        init.report(launch.channel, error)
        os._exit(1)
    if pid:
        _announce(writer, pid)
    os.close(writer)


def _announce(writer: int, pid: int) -> NoReturn:
    try:
        os.write(writer, str(pid).encode())
    finally:
        os._exit(0)


def enter(joined: list[tuple[int, int]]) -> None:
    """Join namespaces that are given by descriptors, but for the user namespace."""
    for fd, kind in joined:
        if kind != kinds.CLONE_NEWUSER:
            kinds.setns(fd, kind)


def enter_user_namespace(launch: Launch) -> None:
    if launch.joined_user >= 0:
        kinds.setns(launch.joined_user, kinds.CLONE_NEWUSER)


def set_clocks(launch: Launch) -> None:
    """config-linux.md, "Offset for Time Namespace". Nothing is in the namespace yet."""
    offsets = launch.spec.linux.time_offsets
    if not offsets:
        return
    fd = init.open_own(launch.proc, "timens_offsets")
    lines = (f"{name} {seconds} {nanos}\n" for name, (seconds, nanos) in offsets.items())
    try:
        write_all(fd, "".join(lines).encode())
    except OSError as error:
        raise InvalidArgument(f"linux.timeOffsets: {reason(error)}") from error
    finally:
        os.close(fd)
